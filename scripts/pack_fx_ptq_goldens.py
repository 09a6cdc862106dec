#!/usr/bin/env python3
"""Packs NNCF's quantizer parameters of whole models for tests/golden/fx_ptq_golden_test.cpp.

usage: pack_fx_ptq_goldens.py GOLDENS_DIR OUT_DIR
  GOLDENS_DIR  holds nncf/fx_ptq
  OUT_DIR      tests/data/fx_ptq

Every model and variant is kept. A quantizer appears once; variants list indices, because most share their weights.
"""
import json
import shutil
import sys
from pathlib import Path

import numpy as np


def values(array, npz):
    if isinstance(array, dict):
        array = npz[array["npz"]] if "npz" in array else array["values"]
    return np.asarray(array, dtype=np.float64).ravel()


def pack(folder, name, out):
    data = json.loads((folder / f"{name}.json").read_text())
    npz = np.load(folder / f"{name}.npz")
    table, configs = [], {}
    index = {}
    for config_name, config in data["configs"].items():
        if "error" in config:
            continue
        members = []
        for q in config["qdq"]:
            nodes = [q["source"]] + [user["node"] for user in q["users"]]
            scale = [float(f"{x:.9g}") for x in values(q["scale"], npz)]
            zero_point = [int(x) for x in values(q["zero_point"], npz)]
            if not any(zero_point):
                zero_point = []
            record = {"weight": q["source_is_const"], "nodes": nodes, "scale": scale, "zero_point": zero_point}
            key = json.dumps(record)
            if key not in index:
                index[key] = len(table)
                table.append(record)
            members.append(index[key])
        configs[config_name] = members
    lines = ",\n".join(json.dumps(record, separators=(",", ":")) for record in table)
    rows = ",\n".join(f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in configs.items())
    (out / f"{name}.json").write_text(f'{{"quantizers":[\n{lines}\n],"configs":{{\n{rows}\n}}}}\n')
    for kind in ("model", "inputs"):
        target = out / f"{name}.{kind}.pt"
        shutil.copyfile(folder / f"{name}.{kind}.pt", target)
        target.chmod(0o644)


def main():
    folder, out = Path(sys.argv[1]) / "nncf" / "fx_ptq", Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("*.json")):
        pack(folder, path.stem, out)


if __name__ == "__main__":
    main()
