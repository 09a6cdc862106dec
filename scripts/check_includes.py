#!/usr/bin/env python3
"""Fails when a file includes against the arrows: every room may include the rooms named beside it and those that they
may include. Public headers belong to the room whose concept they declare. usage: check_includes.py"""
import pathlib
import re
import sys

ROOMS = {
    "base": [],
    "graph": ["io"],
    "numerics": ["base"],
    "run": ["graph"],
    "observers": ["numerics"],
    "passes": ["run"],
    "options": ["base"],  # and every public header
    "quantizers": ["observers", "passes", "options"],  # their own rewrites use what passes share
    "distributed": ["base"],
    "io": ["base"],
    "calibration": ["run", "observers", "distributed", "quantizers"],
    "algorithms": ["calibration"],
    "compression": ["calibration"],
    "weight_only": ["numerics", "graph", "run", "compression"],
    "lowering": ["compression", "passes", "quantizers", "io"],
    "evaluation": ["lowering"],
    "flows": ["algorithms", "lowering", "evaluation", "calibration", "options"],
    "report": ["flows"],
    "cli": ["report"],
}
PUBLIC = {
    "error.h": "base",
    "sample.h": "base",
    "format.h": "base",
    "quantization_spec.h": "base",
    "range.h": "base",
    "output_form.h": "base",
    "progress.h": "base",
    "algorithm_parameters.h": "base",
    "compression_parameters.h": "base",
    "data_source.h": "base",
    "dataset.h": "base",
    "range_estimator.h": "base",
    "distributed.h": "base",
    "report.h": "base",
    "model.h": "graph",
    "load_mapped.h": "graph",
    "graph_view.h": "graph",
    "observer.h": "observers",
    "observer_module.h": "observers",
    "annotation.h": "quantizers",
    "quantizer.h": "quantizers",
    "quantization_config.h": "quantizers",
    "load_quantizer.h": "quantizers",
    "openvino_quantizer.h": "quantizers",
    "x86_inductor_quantizer.h": "quantizers",
    "xnnpack_quantizer.h": "quantizers",
    "observer_module.h": "observers",
    "fx/qconfig.h": "quantizers",
    "fx/qconfig_mapping.h": "quantizers",
    "fx/backend_config.h": "quantizers",
    "fx/custom_config.h": "quantizers",
    "fx/fx_quantizer.h": "quantizers",
    "data_files.h": "io",
    "weight_only.h": "weight_only",
    "engine.h": "lowering",
}


def reachable(room):
    rooms, stack = set(), [room]
    while stack:
        next_room = stack.pop()
        if next_room not in rooms:
            rooms.add(next_room)
            stack.extend(ROOMS[next_room])
    return rooms


def room_of(include):
    folder, _, rest = include.partition("/")
    return PUBLIC.get(rest, "flows") if folder == "tsquant" else folder


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    wrong = []
    for room in ROOMS:
        allowed = reachable(room)
        for path in sorted((root / "src" / room).rglob("*")):
            if path.suffix not in (".h", ".cpp", ".inc"):
                continue
            for include in re.findall(r'^#include "([^"]+)"', path.read_text(), re.M):
                target = room_of(include)
                public = room == "options" and include.startswith("tsquant/")
                if "/" in include and target not in allowed and not public:
                    wrong.append(f"{path.relative_to(root)} includes {include} ({target})")
    unknown = {p.name for p in (root / "src").iterdir() if p.is_dir()} - set(ROOMS)
    wrong += [f"src/{name} has no row in ROOMS" for name in sorted(unknown)]
    print("\n".join(wrong) or "all includes follow the arrows")
    sys.exit(bool(wrong))


main()
