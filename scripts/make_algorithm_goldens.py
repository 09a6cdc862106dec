#!/usr/bin/env python3
"""Cuts tests/data/algorithms/fast_bias_correction.json out of the reference data. Needs no packages.

usage: make_algorithm_goldens.py GOLDENS_DIR OUT_DIR
  GOLDENS_DIR  holds nncf/fx_ptq
"""
import json
import pathlib
import re
import sys

CONFIGS = {"default": 2.0, "bc_fast_threshold_0.01": 0.01, "bc_fast_threshold_1e9": 1e9, "mixed": 2.0}


def main():
    goldens, out = map(pathlib.Path, sys.argv[1:3])
    data = json.loads((goldens / "nncf" / "fx_ptq" / "conv_resnet.json").read_text())
    records = []
    for config, threshold in CONFIGS.items():
        biases = {}
        for key, value in data["configs"][config]["changed_constants"].items():
            biases[re.search(r"-> (\w+)\)", key).group(1)] = [float("%.9g" % v) for v in value["values"]]
        records.append({"config": config, "threshold": threshold, "mixed": config == "mixed", "biases": biases})
    out.mkdir(parents=True, exist_ok=True)
    (out / "fast_bias_correction.json").write_text(json.dumps({"model": "conv_resnet", "records": records}))


if __name__ == "__main__":
    main()
