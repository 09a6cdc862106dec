#!/usr/bin/env python3
"""Writes tests/data/names/<model>.txt from NNCF's torch graphs: name and metatype of every operator, in order.

usage: make_name_goldens.py NAMES_FOLDER OUT_FOLDER"""
import json, pathlib, sys

source, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
for path in sorted(source.glob("*.json")):
    nodes = json.loads(path.read_text())["nodes"]
    lines = [f'{n["name"]} {n["metatype"]}' for n in nodes if not n["type"].startswith("nncf_model_")]
    (out / (path.stem + ".txt")).write_text("\n".join(lines) + "\n")
