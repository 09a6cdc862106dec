#!/usr/bin/env python3
"""Packs a part of the goldens of torch.ao's observers for the unit tests, which take all of them where they are present.
usage: pack_observer_goldens.py <goldens/torchao> tests/data/observers"""
import json
import pathlib
import sys
import zipfile

OBSERVED = ["growing", "with_empty"]  # ranges that grow in every batch; a batch without values
TRAINED = ["normal"]


def main(source, target):
    source, target = pathlib.Path(source), pathlib.Path(target)
    goldens = json.loads((source / "observers.json").read_text())
    observers = [r for r in goldens["observers"] if r.get("stream") in OBSERVED + [None]]
    for record in observers:
        for key in ("minmax_trace", "zp_dtype", "quant_min", "quant_max"):
            record.pop(key, None)
    trained = [r for r in goldens["fake_quant"] if r["stream"] in TRAINED]
    streams = {name: goldens["streams"][name] for name in OBSERVED + TRAINED}
    kept = {key: goldens[key] for key in ("torch", "never_run", "special_values")}
    kept.update(streams=streams, observers=observers, fake_quant=trained)

    names = {f"{name}.{i}" for name, count in streams.items() for i in range(count)}
    names |= {r["histogram_key"] for r in observers if "histogram_key" in r}
    names |= {step[key] for r in trained for step in r["steps"] for key in ("y", "x_grad")}
    target.mkdir(parents=True, exist_ok=True)
    (target / "observers.json").write_text(json.dumps(kept, separators=(",", ":")) + "\n")
    with zipfile.ZipFile(source / "observers.npz") as full:
        with zipfile.ZipFile(target / "observers.npz", "w", zipfile.ZIP_DEFLATED) as part:
            for name in sorted(names):
                info = zipfile.ZipInfo(name + ".npy")
                info.compress_type = zipfile.ZIP_DEFLATED
                part.writestr(info, full.read(name + ".npy"))


main(*sys.argv[1:])
