#!/usr/bin/env python3
"""Packs the quantizer setups that NNCF's executorch tests keep (<Quantizer>/<model>_ref_qconfig.json) for
tests/golden/upstream_setup_test.cpp.

usage: pack_upstream_setups.py UPSTREAM_REFS_DIR FX_PLACEMENT_DIR TARGET_DIR

A packed file has
  "inputs":  [[shape, dtype], ...]                   of the model, from <FX_PLACEMENT_DIR>/<model>.json
  "configs": [config, ...]                           distinct quantizer configurations, without null fields
  "points":  [[kind, [operator, ...], config index], ...]   in the order of the file, which is that of the ids
  "groups":  [[id, ...], ...]                        unified scale groups
"""
import ast
import json
import pathlib
import sys

QUANTIZERS = ("OpenVINOQuantizer", "X86InductorQuantizer", "XNNPACKQuantizer")


def pack(setup, graph):
    configs, points = [], []
    for key, config in setup["quantization_points"].items():
        operators, kind = key.rsplit("_", 1)
        config = {name: value for name, value in config.items() if value is not None}
        if config not in configs:
            configs.append(config)
        kind = "weight" if kind.startswith("Weight") else "activation"
        points.append([kind, sorted(ast.literal_eval(operators)), configs.index(config)])
    inputs = [[node["shape"], node["dtype"].replace("torch.", "")] for node in graph["nodes"]
              if node["metatype"] == "PTInputNoopMetatype"]
    groups = list(setup["unified_scale_groups"].values())
    return {"inputs": inputs, "configs": configs, "points": points, "groups": groups}


def main():
    source, graphs, target = map(pathlib.Path, sys.argv[1:4])
    for quantizer in QUANTIZERS:
        (target / quantizer).mkdir(parents=True, exist_ok=True)
        for path in sorted((source / quantizer).glob("*_ref_qconfig.json")):
            model = path.name[: -len("_ref_qconfig.json")]
            graph = json.loads((graphs / (model + ".json")).read_text())
            packed = pack(json.loads(path.read_text()), graph)
            text = json.dumps(packed, separators=(",", ":"))
            (target / quantizer / (model + ".json")).write_text(text + "\n")


if __name__ == "__main__":
    main()
