#!/usr/bin/env python3
"""Packs what torch.ao's reference models hold into tests/data/fx/parameters.json.

FOLDER has <model>.json: per configuration the graphs of the prepared and of the reference model. Written are, per model
and configuration, scale and zero point of each tensor that the reference model quantizes (by the name of the operator
that makes it), and scales and zero points of the weights. Positions are those of tests/data/fx/golden.json: they are
compared here, for all configurations.
"""
import argparse
import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "fx"
CONFIGURATIONS = ("minmax", "onednn", "fbgemm", "qnnpack")


def source(nodes, name):
    """The quantize that an argument comes through, or None; and the operator before it."""
    node = nodes[name]
    if node["target"] != "dequantize":
        return None, name
    quantize = nodes[node["args"][0]["node"]]
    return quantize, quantize["args"][0]["node"]


def value(nodes, argument):
    return nodes[argument["node"]]["value"]


def tensors(nodes):
    """Scale and zero point by the operator that makes the tensor."""
    result = {}
    for node in nodes.values():
        if not str(node["target"]).startswith("torch.quantize_per_tensor"):
            continue
        _, producer = source(nodes, node["args"][0]["node"])
        (scale,), (zero_point,) = value(nodes, node["args"][1]), value(nodes, node["args"][2])
        if nodes[producer]["op"] != "get_attr":
            assert producer not in result or result[producer] == [scale, int(zero_point)], producer
            result[producer] = [scale, int(zero_point)]
    return result


def weights(nodes):
    """By the operator that reads them."""
    result = {}
    for node in nodes.values():
        if "weight_qparams" in node:
            result[node["name"]] = [node["weight_qparams"]["scale"], node["weight_qparams"]["zero_point"]]
        if node["target"] == "torch.conv2d":
            quantize, _ = source(nodes, node["args"][1]["node"])
            result[node["name"]] = [value(nodes, argument) for argument in quantize["args"][1:3]]
    for entry in result.values():
        if not any(entry[1]):
            entry[1] = [0]  # one stands for all
    return result


def edges(prepared, operators):
    """As in golden.json, which leaves out what computes sizes."""
    return [[e["node"], e["inputs"], (e["output_observers"] or [None])[0]] for e in prepared["edges"]
            if e["node"] in operators]


def without_constants(edges):
    """Without arguments that are neither observed nor made by an operator: the float biases of functions."""
    made = {edge[0] for edge in edges}
    return [[node, [i for i in inputs if i[1] or i[0] in made], output] for node, inputs, output in edges]


def packed(folder, name, known):
    model = json.loads((folder / f"{name}.json").read_text())
    result = {"tensors": {}, "weights": {}}
    for configuration in CONFIGURATIONS:
        operators = {edge[0] for edge in known["edges"]}
        theirs = edges(model[configuration]["prepared"], operators)
        if without_constants(known["edges"]) != without_constants(theirs):
            raise SystemExit(f"{name} {configuration}: other positions than in golden.json")
        nodes = {node["name"]: node for node in model[configuration]["reference"]["nodes"]}
        result["tensors"][configuration] = tensors(nodes)
        result["weights"][configuration] = weights(nodes)
    for configuration in CONFIGURATIONS[1:]:
        if result["weights"][configuration] == result["weights"]["minmax"]:
            result["weights"][configuration] = "minmax"
    return result


def rows(model):
    for part, configurations in model.items():
        lines = (f'    "{key}": {json.dumps(entry, separators=(",", ":"))}' for key, entry in configurations.items())
        yield f'   "{part}": {{\n' + ",\n".join(lines) + "}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    golden = json.loads((ROOT / "golden.json").read_text())
    models = (f'  "{name}": {{\n' + ",\n".join(rows(packed(folder, name, known))) + "}"
              for name, known in golden["models"].items())
    (ROOT / "parameters.json").write_text("{\n" + ",\n".join(models) + "}\n")


if __name__ == "__main__":
    main()
