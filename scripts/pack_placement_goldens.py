#!/usr/bin/env python3
"""Packs reference placements (graph and quantizer setups of one model) into one small JSON file per model.

usage: pack_placement_goldens.py SOURCE_DIR TARGET_DIR

SOURCE_DIR holds <model>.json (graph) and <model>.<variant>.json (setups), as NNCF's FX backend made them.
A packed file has
  "nodes":  [[name, type, metatype, shape or null], ...]      position = id
  "edges":  [[from, to, output port, input port], ...]
  "setups": {variant: {"options": {...}, "points": [[id, kind, node, port or null, config], ...], "groups": [[id, ...]]}}
with config = [num_bits, mode, signedness_to_force, per_channel, narrow_range].
"""
import json
import pathlib
import sys

FIELDS = ("num_bits", "mode", "signedness_to_force", "per_channel", "narrow_range")


def pack_graph(graph):
    nodes = [[n["name"], n["type"], n["metatype"], n.get("shape")] for n in graph["nodes"]]
    edges = []
    for e in graph["edges"]:
        for port in [e["input_port"]] + list(e.get("parallel_input_port_ids") or []):
            edges.append([e["from"], e["to"], e["output_port"], port])
    return nodes, edges


def pack_setup(data):
    setup = data["setup"]
    points = [
        [p["id"], p["kind"], p["target_node"], p["input_port_id"], [p["qconfig"][f] for f in FIELDS]]
        for p in setup["quantization_points"]
    ]
    half = {k: setup[k] for k in setup if k.startswith("half_range_weight_nodes")}
    return {"options": data["options"], "points": points, "groups": setup["unified_scale_groups"], **half}


def main():
    source, target = map(pathlib.Path, sys.argv[1:3])
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("*.json")):
        if "." in path.stem:
            continue
        nodes, edges = pack_graph(json.loads(path.read_text()))
        setups = {}
        for other in sorted(source.glob(path.stem + ".*.json")):
            data = json.loads(other.read_text())
            if "setup" in data:
                setups[data["variant"]] = pack_setup(data)
        packed = {"nodes": nodes, "edges": edges, "setups": setups}
        (target / path.name).write_text(json.dumps(packed, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
