"""Runs `tsquant annotate` on traces and compares the result with NNCF's setups; see check_placement.sh."""

import argparse
import glob
import json
import os
import subprocess
import sys
import tempfile

TSQUANT = "build/bin/tsquant"
VARIANTS = {
    "default": [],
    "mixed": ["--preset", "mixed"],
    "transformer": ["--model-type", "transformer"],
    "quantize_outputs": ["--quantize-outputs"],
    "rule_do_not_merge_branches": ["--propagation-rule", "do_not_merge_branches"],
}
# Aliases of its mask arithmetic shift once the trace is loaded from a file (README of the goldens).
LOOSE = {"swin_v2_t"}


def shape_options(graph):
    options = []
    for node in graph["nodes"]:
        if node["type"] != "input":
            continue
        dtype = node["dtype"].split(".")[-1]
        suffix = "" if dtype == "float32" else ":" + dtype
        options += ["--input-shape", ",".join(map(str, node["shape"])) + suffix]
    return options


def options_of(setup_path):
    variant = os.path.basename(setup_path)[: -len(".json")].split(".")[-1]
    if variant not in VARIANTS:
        raise SystemExit(f"{setup_path}: unknown variant '{variant}'; known: {', '.join(VARIANTS)}")
    return VARIANTS[variant]


def compare(comparer, trace, graph_path, setup_path, loose):
    """Returns '' when the placements are equal, else what differs."""
    with open(graph_path) as file:
        graph = json.load(file)
    with tempfile.NamedTemporaryFile(suffix=".json") as candidate:
        command = [TSQUANT, "annotate", trace, *shape_options(graph), *options_of(setup_path), "--json", candidate.name]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            return run.stderr.strip()
        command = [sys.executable, comparer, graph_path, setup_path, candidate.name] + (["--loose"] if loose else [])
        run = subprocess.run(command, capture_output=True, text=True)
        return "" if run.returncode == 0 else (run.stdout + run.stderr).strip()


def trace_torchvision(name, folder):
    path = os.path.join(folder, name + ".pt")
    subprocess.run(["/usr/bin/python3", "scripts/make_torchvision_trace.py", name, path], check=True)
    return path


def cases_of(goldens, names, folder):
    for graph_path in sorted(glob.glob(os.path.join(goldens, "fx_placement", "*.json"))):
        name = os.path.basename(graph_path)[: -len(".json")]
        if "." in name or (names and name not in names):
            continue
        trace = trace_torchvision(name, folder) if names else os.path.join(goldens, "traces", name + ".pt")
        for setup in sorted(glob.glob(os.path.join(goldens, "fx_placement", name + ".*.json"))):
            yield trace, graph_path, setup, name in LOOSE


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--goldens", default=os.environ.get("TSQUANT_GOLDENS", "../shared/goldens/nncf"))
    parser.add_argument("--torchvision", action="append", default=[])
    parser.add_argument("--trace")
    parser.add_argument("--graph")
    parser.add_argument("--setup")
    parser.add_argument("--loose", action="store_true")
    args = parser.parse_args()
    comparer = os.path.join(args.goldens, "compare_placement.py")
    if not os.path.exists(comparer):
        print(f"skipped: no {comparer}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        if args.trace:
            cases = [(args.trace, args.graph, args.setup, args.loose)]
        else:
            cases = list(cases_of(args.goldens, args.torchvision, folder))
        different = 0
        for case in cases:
            message = compare(comparer, *case)
            different += bool(message)
            print(f"{'DIFFERS' if message else 'equal  '} {os.path.basename(case[2])[: -len('.json')]}")
            if message:
                print(message[:4000])
    print(f"{len(cases) - different} of {len(cases)} equal")
    return 1 if different or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
