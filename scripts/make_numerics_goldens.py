#!/usr/bin/env python3
"""Cuts the small golden files in tests/data/numerics out of the reference data. Needs no packages.

usage: make_numerics_goldens.py GOLDENS_DIR OUT_DIR
  GOLDENS_DIR  holds nncf/ptq, nncf/fx_ptq and torchao
"""

import json
import pathlib
import re
import shutil
import struct
import sys
import zipfile

MODELS = ["conv_resnet", "tiny_transformer_block", "conv_relu_branch_model", "simple_concat_model"]
FX_MODELS = ["conv_resnet", "tiny_transformer_block"]
ESTIMATORS = re.compile(r"(min|max)=StatisticsCollectorParameters\((.*?)\)")


def flat(value):
    """The numbers of a stored array as one list."""
    if isinstance(value, dict):
        value = value.get("values")
    if value is None:
        return None
    if isinstance(value, (int, float)):
        return [value]
    return [number for item in value for number in flat(item)]


def short(values):
    """Floats with the nine digits that a float32 needs."""
    return [float("%.9g" % v) for v in values]


def estimator(text):
    """{"min": {...}, "max": {...}} from the printed form of RangeEstimatorParameters."""
    result = {}
    for bound, fields in ESTIMATORS.findall(text):
        result[bound] = {
            "statistics": re.search(r"StatisticsType\.(\w+)", fields).group(1),
            "aggregator": re.search(r"AggregatorType\.(\w+)", fields).group(1),
            "prob": float(re.search(r"quantile_outlier_prob=([\d.e+-]+)", fields).group(1)),
        }
    return result


def is_symmetric(entry):
    """Attention inputs stay symmetric in the mixed preset: [-256/254 high, high], far from the observed minimum."""
    low, high, seen = (flat(entry[key])[0] for key in ("input_low", "input_high", "stat_min"))
    return abs(low + high * 256 / 254) < 1e-5 * high and abs(low - seen) > (high - low) / 255


def nncf_ranges(goldens):
    """Range -> interval: one record per distinct statistic of goldens/nncf/ptq."""
    records, seen = [], set()
    for path in sorted((goldens / "nncf" / "ptq").glob("*.json")):
        for name, config in json.loads(path.read_text())["configs"].items():
            options = config.get("options") or {}
            asymmetric = options.get("preset") == "mixed" or (
                "model_type" in options and options.get("preset") is None)
            for entry in config.get("statistics", []):
                low, high = flat(entry.get("stat_min")), flat(entry.get("stat_max"))
                if not low or not flat(entry.get("input_low")) or len(low) > 64:
                    continue
                weight = entry["target_points"][0]["type"] == "OPERATION_WITH_WEIGHTS"
                record = {
                    "weight": weight,
                    "asymmetric": "asymmetric" in name if weight else asymmetric and not is_symmetric(entry),
                    "narrow": entry["levels"] == 255,
                    "half_range": entry["half_range"],
                    "min": short(low),
                    "max": short(flat(entry["stat_max"])),
                    "low": short(flat(entry["input_low"])),
                    "high": short(flat(entry["input_high"])),
                }
                key = json.dumps(record)
                if key not in seen:
                    seen.add(key)
                    records.append(dict(record, source=f"{path.stem}/{name}"))
    return records


def nncf_inputs(goldens):
    """Statistics of the model inputs under every range estimator; the inputs themselves are in *.inputs.pt."""
    records = []
    for model in MODELS:
        data = json.loads((goldens / "nncf" / "ptq" / f"{model}.json").read_text())
        for name, config in data["configs"].items():
            options = config.get("options") or {}
            advanced = options.get("advanced") or {}
            if "model_type" in options:
                continue
            for entry in config.get("statistics", []):
                point = entry["target_points"][0]
                if point["node"] != "x" or entry.get("stat_min") is None or len(flat(entry["stat_min"])) != 1:
                    continue
                records.append({
                    "model": model,
                    "config": name,
                    "asymmetric": options.get("preset") == "mixed",
                    "batchwise": "batchwise_statistics" in advanced,
                    "samples": int(options.get("subset_size", 10)),
                    "estimator": estimator(advanced.get("activations_range_estimator_params", "")),
                    "min": flat(entry["stat_min"])[0],
                    "max": flat(entry["stat_max"])[0],
                })
    return records


def fx_inputs(goldens):
    """Scale and zero point of the quantizer on the input `x` in goldens/nncf/fx_ptq."""
    records = []
    for model in MODELS:
        data = json.loads((goldens / "nncf" / "fx_ptq" / f"{model}.json").read_text())
        for name, config in data["configs"].items():
            options = config.get("options") or {}
            for entry in config.get("qdq", []):
                if entry["source"] != "x" or "transformer" in name or "smooth_quant" in name:
                    continue
                records.append({
                    "model": model,
                    "config": name,
                    "asymmetric": options.get("preset") == "mixed",
                    "batchwise": "batchwise_statistics" in options,
                    "samples": int(options.get("subset_size", 10)),
                    "estimator": estimator(options.get("activations_range_estimator_params", "")),
                    "scale": entry["scale"],
                    "zero_point": entry["zero_point"],
                    "dtype": entry["dtype"],
                })
    return records


def npz_raw(archive, name):
    """Shape and little-endian bytes of one array of an npz."""
    raw = archive.read(name + ".npy")
    size = struct.unpack("<H", raw[8:10])[0]
    header = eval(raw[10:10 + size].decode())  # a literal dictionary written by numpy
    assert not header["fortran_order"], header
    return header["descr"], list(header["shape"]), raw[10 + size:]


def numbers(value, archive):
    """The numbers of an array that is stored inline or in the npz."""
    if not (isinstance(value, dict) and "npz" in value):
        return flat(value)
    kind, _, raw = npz_raw(archive, value["npz"])
    code = {"<f4": "f", "|i1": "b", "|u1": "B", "<i4": "i", "<i8": "q"}[kind]
    return list(struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw))


def fx_point(entry, archive):
    """One quantize/dequantize pair: where it stands and its parameters."""
    weight = entry["source_is_const"]
    user = entry["users"][0]
    point = {
        "weight": weight,
        "node": user["node"] if weight else entry["source"],
        "port": user["ports"][0] if weight else -1,
        "dtype": entry["dtype"],
        "quant_min": entry["quant_min"],
        "per_channel": entry["per_channel"],
        "scale": short(numbers(entry["scale"], archive)),
        "zero_point": numbers(entry["zero_point"], archive),
    }
    if entry.get("quantized_weight"):
        point["codes"] = numbers(entry["quantized_weight"], archive)
    return point


def fx_models(goldens):
    """All points of whole models under every option that changes statistics."""
    records = []
    for model in FX_MODELS:
        path = goldens / "nncf" / "fx_ptq" / f"{model}.json"
        with zipfile.ZipFile(path.with_suffix(".npz")) as archive:
            for name, config in json.loads(path.read_text())["configs"].items():
                # quantize_pt2e ignores the overflow fix of its quantizer, so these repeat the default.
                if "smooth_quant" in name or name.startswith("overflow") or (name.removeprefix("mixed_").removeprefix("transformer_").startswith("bc_")
                                              and name != "transformer_bc_none"):
                    continue
                options = config.get("options") or {}
                points = [fx_point(entry, archive) for entry in config.get("qdq", [])]
                if name != "default":
                    for point in points:
                        point.pop("codes", None)
                records.append({
                    "model": model,
                    "config": name,
                    "batchwise": "batchwise_statistics" in options,
                    "samples": int(options.get("subset_size", 10)),
                    "estimator": estimator(options.get("activations_range_estimator_params", "")),
                    "weights_estimator": estimator(options.get("weights_range_estimator_params", "")),
                    "mixed": options.get("preset") == "mixed" or "transformer" in name,
                    "points": points,
                })
    return records


def npz_tensors(path, wanted):
    """Raw little-endian float32 arrays of an npz: name -> (shape, bytes)."""
    result = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            stem = name[:-4]
            if stem.rsplit(".", 1)[0] not in wanted:
                continue
            kind, shape, raw = npz_raw(archive, stem)
            assert kind == "<f4"
            result[stem] = (shape, raw)
    return result


def torchao(goldens, out):
    """Streams as one raw file, statistics per observer, and range -> parameters."""
    data = json.loads((goldens / "torchao" / "observers.json").read_text())
    tensors = npz_tensors(goldens / "torchao" / "observers.npz", set(data["streams"]))
    streams, blob = {}, b""
    for stream, count in data["streams"].items():
        streams[stream] = []
        for k in range(count):
            shape, raw = tensors[f"{stream}.{k}"]
            streams[stream].append({"shape": shape, "offset": len(blob) // 4})
            blob += raw
    (out / "torchao_streams.bin").write_bytes(blob)

    statistics, params, seen = [], [], set()
    for entry in data["observers"]:
        kind, args = entry["observer"], entry["args"]
        if "stream" not in entry or kind.startswith("HistogramObserver") or "2.1" in kind:
            continue
        record = {"observer": kind, "stream": entry["stream"], "ch_axis": args.get("ch_axis"),
                  "constant": args.get("averaging_constant")}
        if kind.startswith("emulated"):
            record.update(observer="HistogramObserver", min=[entry["search_min"]], max=[entry["search_max"]],
                          width=(entry["max_val"][0] - entry["min_val"][0]) / 2048)
        else:
            record.update(min=short(entry["min_val"]), max=short(entry["max_val"]))
        key = json.dumps(record)
        if key not in seen:
            seen.add(key)
            statistics.append(record)
        # Without explicit limits torch.ao takes 128 as the middle of quint8; a spec always has explicit limits.
        implicit_middle = args["dtype"] == "quint8" and "symmetric" in args["qscheme"] and "quant_min" not in args
        wide = kind == "MinMaxObserver" or (kind == "PerChannelMinMaxObserver" and args["ch_axis"] == 0 and
                                             entry["stream"] in ("normal", "perchannel", "relu", "tiny", "weight2d"))
        if wide and not implicit_middle and "float_qparams" not in args["qscheme"]:
            params.append({
                "min": short(entry["min_val"]), "max": short(entry["max_val"]), "dtype": args["dtype"],
                "symmetric": "symmetric" in args["qscheme"], "per_channel": "channel" in args["qscheme"],
                "quant_min": entry["quant_min"], "quant_max": entry["quant_max"], "eps": args.get("eps", 2.0**-23),
                "scale": short(entry["scale"]), "zero_point": [int(z) for z in entry["zero_point"]],
            })
    return {"streams": streams, "statistics": statistics, "params": params}


def write(path, value):
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")
    print(path, path.stat().st_size)


def main():
    goldens, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    write(out / "nncf_ranges.json", nncf_ranges(goldens))
    write(out / "nncf_inputs.json", nncf_inputs(goldens))
    write(out / "nncf_fx_inputs.json", fx_inputs(goldens))
    write(out / "nncf_fx_models.json", fx_models(goldens))
    write(out / "torchao_observers.json", torchao(goldens, out))
    for model in FX_MODELS:
        shutil.copyfile(goldens / "nncf" / "fx_ptq" / f"{model}.model.pt", out / f"{model}.model.pt")
    for model in MODELS:
        shutil.copyfile(goldens / "nncf" / "ptq" / f"{model}.inputs.pt", out / f"{model}.inputs.pt")


if __name__ == "__main__":
    main()
