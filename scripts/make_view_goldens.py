#!/usr/bin/env python3
"""Writes tests/data/views/<model>.txt from NNCF's FX graphs: one line per node with its inputs in port order.

usage: make_view_goldens.py FX_PLACEMENT_FOLDER OUT_FOLDER

  inputs 1x3x224x224:float32
  parameter conv1.weight
  parameter *
  conv2d conv2d PTConv2dMetatype 1x64x112x112 < @0:0 conv1.weight:0 *:0

@0 is the first input. Parameters appear by state-dict name; `*` is a bias that batch norm folding made. Fields: FX alias, type, metatype,
shape, then producer:output_port for each port."""
import json, pathlib, sys

def shape_text(node):
    return "x".join(map(str, node["shape"])) or "scalar" if node.get("shape") is not None else "-"

def main():
    source, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    for path in sorted(source.glob("*.json")):
        graph = json.loads(path.read_text())
        if "nodes" not in graph:
            continue
        nodes = {n["id"]: n for n in graph["nodes"]}
        label = {i: n.get("param", "*") if n["type"] == "get_attr" else n["name"] for i, n in nodes.items()}
        inputs = [i for i, n in nodes.items() if n["type"] == "input"]
        label.update({i: f"@{k}" for k, i in enumerate(inputs)})
        arguments = {i: {} for i in nodes}
        for e in graph["edges"]:
            for port in [e["input_port"]] + list(e.get("parallel_input_port_ids") or []):
                arguments[e["to"]][port] = f'{label[e["from"]]}:{e["output_port"]}'
        lines = ["inputs " + " ".join("x".join(map(str, i["shape"])) + ":" + i["dtype"].split(".")[1] for i in graph["inputs"])]
        for i, n in nodes.items():
            if n["type"] == "input":
                continue
            if n["type"] == "get_attr":
                lines.append("parameter " + label[i])
                continue
            ports = [arguments[i][p] for p in sorted(arguments[i])]
            assert sorted(arguments[i]) == list(range(len(ports))), (path, n)
            lines.append(" ".join([n["name"], n["type"], n["metatype"], shape_text(n), "<"] + ports))
        (out / (path.stem + ".txt")).write_text("\n".join(lines) + "\n")

main()
