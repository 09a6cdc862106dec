#!/usr/bin/env python3
"""Cuts tests/data/algorithms/smooth_quant* out of the reference data. Needs no packages.

usage: make_smooth_quant_goldens.py GOLDENS_DIR OUT_DIR
  GOLDENS_DIR  holds nncf/fx_ptq and nncf/ptq
"""

import json
import pathlib
import re
import shutil
import sys
import zipfile

from make_numerics_goldens import fx_point, numbers, short

# Models whose files tests/data/numerics holds already come first.
MODELS = ["conv_resnet", "tiny_transformer_block", "conv_relu_branch_model", "multi_branches_connected_model",
          "simple_concat_model", "synthetic_transformer", "yolo11n_sdpa_block", "yolo26_attn_block"]
CONFIGS = {"smooth_quant": (-1, 0.95), "smooth_quant_conv_0.05": (0.05, 0.95),
           "transformer_smooth_quant_bc_none": (-1, 0.95), "transformer_smooth_quant_0.5_bc_none": (-1, 0.5)}


def scale_of(before, after, shape):
    """Per input channel: the ratio at the largest weight that reads it."""
    out, channels = shape[0], shape[1]
    positions = len(before) // (out * channels)
    scale = []
    for c in range(channels):
        places = [(o * channels + c) * positions + k for o in range(out) for k in range(positions)]
        place = max(places, key=lambda i: abs(before[i]))
        scale.append(after[place] / before[place])
    return scale


def smoothed(data, config, archive):
    """Consumer -> scale of its input channels, from the weights that changed."""
    originals = {value["param"]: value for value in data["constants_after_fusing"].values()}
    consumers = {entry["q"]: entry["users"][0]["node"] for entry in config["qdq"] if entry["source_is_const"]}
    result = {}
    for key, value in config["changed_constants"].items():
        param, user = re.match(r"(\S+) \(\S+ -> (\w+)\)", key).groups()
        if user in consumers:
            before = numbers(originals[param], archive)
            result[consumers[user]] = short(scale_of(before, numbers(value, archive), value["shape"]))
    return result


def point_of(entry, archive):
    """A quantizer and the tensor arguments that it serves."""
    point = fx_point(entry, archive)
    point.pop("codes", None)
    point.pop("node")
    point.pop("port")
    point["users"] = [[user["node"], port] for user in entry["users"] for port in user["ports"]]
    return point


def fx_records(goldens):
    records = []
    for model in MODELS:
        path = goldens / "nncf" / "fx_ptq" / f"{model}.json"
        data = json.loads(path.read_text())
        with zipfile.ZipFile(path.with_suffix(".npz")) as archive:
            for name, (convolution, matmul) in CONFIGS.items():
                config = data["configs"].get(name)
                if not config or "error" in config:
                    continue
                records.append({
                    "model": model,
                    "config": name,
                    "convolution": convolution,
                    "matmul": matmul,
                    "transformer": name.startswith("transformer"),
                    "scales": smoothed(data, config, archive),
                    "points": [point_of(entry, archive) for entry in config["qdq"]],
                })
    return records


def hook_records(goldens):
    """Layer -> multiplier of the other backend's pipeline."""
    wanted = {"transformer_nobc": (-1, 0.95), "transformer_sq_matmul_0.5": (-1, 0.5),
              "transformer_sq_conv_0.05": (0.05, 0.95)}
    records = []
    for model in MODELS[:2]:
        path = goldens / "nncf" / "ptq" / f"{model}.json"
        data = json.loads(path.read_text())
        with zipfile.ZipFile(path.with_suffix(".npz")) as archive:
            for name, (convolution, matmul) in wanted.items():
                config = data["configs"].get(name, {})
                multipliers, first = {}, {}
                for entry in config.get("quantizers", []):
                    if entry.get("class") != "SQMultiply":
                        continue
                    layer = re.match(r"pre_hooks\.(.+)__0\.\d+$", entry["hook"]).group(1)
                    if "multiplier" in entry:
                        first[entry["hook"]] = short(numbers(entry["multiplier"], archive))
                    multipliers[layer] = first[entry.get("same_module_as", entry["hook"])]
                if multipliers:
                    records.append({"model": model, "config": name, "convolution": convolution, "matmul": matmul,
                                    "multipliers": multipliers})
    return records


def main():
    goldens, out = map(pathlib.Path, sys.argv[1:3])
    value = {"fx": fx_records(goldens), "hooks": hook_records(goldens)}
    path = out / "smooth_quant.json"
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")
    print(path, path.stat().st_size)
    for model in MODELS[2:]:
        for kind in ("model", "inputs"):
            shutil.copyfile(goldens / "nncf" / "fx_ptq" / f"{model}.{kind}.pt", out / f"{model}.{kind}.pt")


if __name__ == "__main__":
    main()
