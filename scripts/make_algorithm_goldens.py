#!/usr/bin/env python3
"""Cuts the reference data of the bias correction tests. Needs no packages.

usage: make_algorithm_goldens.py GOLDENS_DIR OUT_DIR
  GOLDENS_DIR  holds nncf/fx_ptq
  OUT_DIR      gets bias_correction.json, and the models and inputs that tests/data/numerics does not hold
"""
import json
import pathlib
import re
import shutil
import struct
import sys
import zipfile

FAST = {"default": 2.0, "bc_fast_threshold_0.01": 0.01, "bc_fast_threshold_1e9": 1e9, "mixed": 2.0}
ACCURATE = {"bc_full": 1000.0, "mixed_bc_full": 1000.0}
MODELS = ["conv_resnet", "tiny_transformer_block", "synthetic_transformer", "multi_branches_connected_model"]


def read_npy(data):
    """The values of a little-endian array of version 1."""
    header = data[10 : 10 + struct.unpack("<H", data[8:10])[0]].decode()
    size, code = {"<f4": (4, "f"), "<f8": (8, "d"), "|i1": (1, "b")}[re.search(r"'descr': '(...)'", header).group(1)]
    body = data[10 + len(header) :]
    return struct.unpack(f"<{len(body) // size}{code}", body)


def values_of(value, arrays):
    values = value["values"] if "values" in value else read_npy(arrays.read(value["npz"] + ".npy"))
    return [float("%.9g" % v) for v in values]


def codes_of(config, alias, arrays):
    """The integer weight of one operator."""
    for pair in config["qdq"]:
        if pair.get("param") and pair["users"][0]["node"] == alias:
            return [int(v) for v in values_of(pair["quantized_weight"], arrays)]


def main():
    goldens, out = map(pathlib.Path, sys.argv[1:3])
    source = goldens / "nncf" / "fx_ptq"
    out.mkdir(parents=True, exist_ok=True)
    records = []
    for model in MODELS:
        arrays = zipfile.ZipFile(source / f"{model}.npz")
        configs = json.loads((source / f"{model}.json").read_text())["configs"]
        for config, threshold in {**FAST, **ACCURATE}.items():
            biases = {}
            if config not in configs:
                continue
            for key, value in configs[config]["changed_constants"].items():
                biases[re.search(r"-> (\w+)\)", key).group(1)] = values_of(value, arrays)
            records.append({"model": model, "config": config, "fast": config in FAST, "threshold": threshold,
                            "mixed": config.startswith("mixed"), "biases": biases})
            if model == "conv_resnet":
                records[-1]["conv2d_codes"] = codes_of(configs[config], "conv2d", arrays)
        for suffix in (".model.pt", ".inputs.pt"):
            if not (out.parent / "numerics" / (model + suffix)).exists():
                shutil.copy(source / (model + suffix), out)
    (out / "bias_correction.json").write_text(json.dumps({"records": records}))


if __name__ == "__main__":
    main()
