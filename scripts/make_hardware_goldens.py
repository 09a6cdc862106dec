#!/usr/bin/env python3
"""Writes NNCF's operator metatypes and hardware tables as JSON, for the tests of ours.

usage: make_hardware_goldens.py NNCF_SOURCE_TREE OUT_FILE   (tests/data/nncf_tables.json)

NNCF need not be installed: the tables are plain data, its metatypes are read from the source text."""
import ast
import importlib
import json
import pathlib
import sys
import types

IGNORED_CLASSES = {"NamespaceTarget", "PTOperatorMetatype", "PTOperatorSubtype"}
NOOP_NAMES = {  # nncf/common/graph/definitions.py, NNCFGraphNodeType
    "NNCFGraphNodeType.INPUT_NODE": "nncf_model_input",
    "NNCFGraphNodeType.OUTPUT_NODE": "nncf_model_output",
    "NNCFGraphNodeType.CONST_NODE": "nncf_model_const",
}


def read_metatypes(source):
    """Class name -> function names, hardware operators and ports, of the classes that NNCF registers."""
    metatypes = {}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef) or node.name in IGNORED_CLASSES:
            continue
        if not any("PT_OPERATOR_METATYPES" in ast.unparse(item) for item in node.decorator_list):
            continue
        row = {"functions": set(), "hw_ops": [], "weight_ports": [], "bias_port": -1, "ignored_ports": [],
               "target_ports": []}
        values = {}
        for item in node.body:
            if isinstance(item, (ast.Assign, ast.AnnAssign)):
                target = item.targets[0] if isinstance(item, ast.Assign) else item.target
                values[target.id] = item.value
        for names in getattr(values.get("module_to_function_names"), "values", []):
            row["functions"] |= set(ast.literal_eval(names))
        for item in getattr(values.get("external_op_names"), "elts", []):
            text = ast.unparse(item)
            row["functions"].add(ast.literal_eval(values["name"]) if text == "name" else NOOP_NAMES[text])
        row["hw_ops"] = [ast.unparse(item).split(".")[-1] for item in getattr(values.get("hw_config_names"), "elts", [])]
        for ours, theirs in [("weight_ports", "weight_port_ids"), ("bias_port", "bias_port_id"),
                             ("ignored_ports", "ignored_input_ports"), ("target_ports", "target_input_ports")]:
            if theirs in values:
                row[ours] = ast.literal_eval(values[theirs])
        row["functions"] = sorted(row["functions"])
        metatypes[node.name] = row
    return metatypes


def read_traits(source):
    """Metatype -> NNCF's default trait, for those that have one."""
    traits = {}
    for node in ast.parse(source).body:
        if isinstance(getattr(node, "value", None), ast.Dict):
            for trait, members in zip(node.value.keys, node.value.values):
                for member in members.elts:
                    traits[ast.unparse(member).split(".")[-1]] = ast.unparse(trait).split(".")[-1]
    return traits


def import_setups(root):
    """The modules nncf.common.hardware.*, without the packages around them."""
    for name in ["nncf", "nncf.common", "nncf.common.hardware", "nncf.common.hardware.setups"]:
        package = types.ModuleType(name)
        package.__path__ = [str(root / "src" / name.replace(".", "/"))]
        sys.modules[name] = package
    structs = types.ModuleType("nncf.common.quantization.structs")
    structs.QuantizationScheme = types.SimpleNamespace(SYMMETRIC="symmetric", ASYMMETRIC="asymmetric")
    structs.QuantizerConfig = lambda **fields: (
        fields["num_bits"], fields["mode"], fields["signedness_to_force"], fields["per_channel"], fields["narrow_range"])
    parameters = types.ModuleType("nncf.parameters")
    exec("from enum import Enum\nclass StrEnum(str, Enum): pass\n", parameters.__dict__)  # as in nncf/parameters.py
    sys.modules.update({"nncf.common.quantization": types.ModuleType("nncf.common.quantization"),
                        "nncf.common.quantization.structs": structs, "nncf.parameters": parameters})
    return {device: getattr(importlib.import_module(f"nncf.common.hardware.setups.{device.lower()}"), f"{device}_SETUP")
            for device in ["CPU", "GPU", "NPU"]}


def expand(setup, metatypes):
    """HWConfig.get_metatype_vs_quantizer_configs_map and get_operations_with_unified_scales."""
    rows = {}
    for description in setup:
        lists = []
        for spaces in (description.activations, description.weights):
            configs = [config for space in spaces for config in space.get_all_qconfigs()]
            lists.append([list(config) for config in dict.fromkeys(configs)])
        for name, metatype in metatypes.items():
            if description.type.name in metatype["hw_ops"]:
                unified = rows.get(name, {}).get("unified", False) or description.attributes.get("scales") == "unified"
                rows[name] = {"activations": lists[0], "weights": lists[1], "unified": unified}
    return rows


def main():
    root, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    metatypes = read_metatypes((root / "src/nncf/torch/graph/operator_metatypes.py").read_text())
    traits = read_traits((root / "src/nncf/torch/quantization/default_quantization.py").read_text())
    for name, row in metatypes.items():
        row["trait"] = traits.get(name, "NON_QUANTIZABLE")
    tables = {device: expand(setup, metatypes) for device, setup in import_setups(root).items()}
    out.write_text(json.dumps({"metatypes": metatypes, "tables": tables}, separators=(",", ":")) + "\n")


main()
