#!/usr/bin/env python3
"""Packs the quantizers that nncf.quantize made, for tests/golden/nncf_quantize_test.cpp.

usage: make_ptq_goldens.py PTQ_DIR OUT_DIR
  PTQ_DIR  holds <model>.{json,npz,model.pt,inputs.pt}: every variant of every model, as NNCF computed it
  OUT_DIR  gets <model>.json (options, places, scales and zero points) and copies of the models and inputs
"""
import json
import pathlib
import re
import shutil
import struct
import sys
import zipfile

BOUND = re.compile(r"(min|max)=StatisticsCollectorParameters\(([^)]*)\)")


def flat(value):
    if isinstance(value, list):
        return [x for item in value for x in flat(item)]
    return [value]


def numbers(value, archive):
    """The numbers of an array that is stored inline or in the npz."""
    if "npz" not in value:
        return flat(value["values"])
    raw = archive.read(value["npz"] + ".npy")
    size = struct.unpack("<H", raw[8:10])[0]
    code = {"<f4": "f", "<i4": "i", "<i8": "q"}[re.search(r"'descr': '([^']+)'", raw[10:10 + size].decode()).group(1)]
    raw = raw[10 + size:]
    return list(struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw))


def estimator(text):
    result = {}
    for bound, fields in BOUND.findall(text):
        result[bound] = {
            "statistics": re.search(r"StatisticsType\.(\w+)", fields).group(1),
            "aggregator": re.search(r"AggregatorType\.(\w+)", fields).group(1),
            "prob": float(re.search(r"quantile_outlier_prob=([\d.e+-]+)", fields).group(1)),
        }
        assert "clipping_value=None" in fields
    return result


def options_of(options):
    """NNCF's arguments with values instead of Python text; a name that is not known ends the program."""
    result = {}
    for name, text in {**{k: v for k, v in options.items() if k != "advanced"}, **options.get("advanced", {})}.items():
        if name == "subset_size":
            result[name] = int(text)
        elif name in ("preset", "model_type", "target_device", "overflow_fix"):
            result[name] = text
        elif name in ("disable_bias_correction", "disable_channel_alignment", "batchwise_statistics",
                      "quantize_outputs"):
            result[name] = text == "True"
        elif name.endswith("range_estimator_params"):
            result[name] = estimator(text)
        elif name == "weights_quantization_params":
            result["weights_per_tensor"] = "per_channel=False" in text
            result["weights_asymmetric"] = "ASYMMETRIC" in text
        elif name == "smooth_quant_alphas":
            result[name] = [float(x) for x in re.findall(r"=(-?[\d.]+)", text)]
        elif name == "bias_correction_params":
            result["bias_threshold"] = float(re.search(r"threshold=([\d.]+)", text).group(1))
        else:
            sys.exit(f"unknown option {name}")
    return result


def quantizers_of(config, archive):
    result = []
    by_hook = {entry["hook"]: entry for entry in config["quantizers"]}
    for entry in config["quantizers"]:
        # A unified scale is one module at several places.
        fake = by_hook[entry.get("same_module_as", entry["hook"])].get("torch_fq")
        if not fake:
            continue  # the multiplication of SmoothQuant
        kind, place = entry["hook"].split(".", 1)
        node, port = re.fullmatch(r"(.*)__(\d+)\.\d+", place).groups()
        result.append({
            "node": node,
            "input": int(port) if kind == "pre_hooks" else -1,
            "quant_min": fake["quant_min"],
            "quant_max": fake["quant_max"],
            "scale": numbers(fake["scale"], archive),
            "zero_point": numbers(fake["zero_point"], archive),
        })
    return result


def pack(path, out):
    """Quantizers repeat between variants: each is written once, and variants list their numbers."""
    table, known, variants = [], {}, []
    with zipfile.ZipFile(path.with_suffix(".npz")) as archive:
        for name, config in json.loads(path.read_text())["configs"].items():
            if "error" in config:
                variants.append({"name": name, "refused": config["error"]})
                continue
            indices = []
            for quantizer in quantizers_of(config, archive):
                key = json.dumps(quantizer)
                if key not in known:
                    known[key] = len(table)
                    table.append(quantizer)
                indices.append(known[key])
            variants.append({"name": name, "options": options_of(config["options"]), "quantizers": indices})
    (out / path.name).write_text(json.dumps({"quantizers": table, "variants": variants}, separators=(",", ":")) + "\n")
    for suffix in (".model.pt", ".inputs.pt"):
        shutil.copyfile(path.with_name(path.stem + suffix), out / (path.stem + suffix))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for model in sorted(source.glob("*.json")):
        pack(model, out)
