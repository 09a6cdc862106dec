#!/usr/bin/env python3
"""tsquant's lowered files against other tools' int8: what peers.sh and fx_speed.sh call.

  peers.py make MODEL FOLDER        writes float.pt (a trace), calibration.pt and torchao_ENGINE.pt (FX, converted,
                                    traced and frozen, for every engine that converts the model and runs it)
  peers.py export FOLDER            float.pt and fake_quantize.pt (tsquant's placement and parameters) as ONNX files
  peers.py run FOLDER OPS NODE      times everything in FOLDER in turns, on one thread, and prints a line of the table;
                                    OPS is libtsquant_ops.so, NODE a folder with onnxruntime-node, or empty
Needs Debian's python3-torch and python3-torchvision; python3-onnx, node and the npm package onnxruntime-node for ONNX
Runtime.
"""
import json
import pathlib
import subprocess
import sys
import time
import warnings

import torch

warnings.filterwarnings("ignore")
ROUNDS = 15
WARM_UP = 3


class Encoder(torch.nn.Module):
    """The shape of BERT base: 12 layers of 768, 12 heads, tokens to hidden states."""

    class Layer(torch.nn.Module):
        def __init__(self, width=768, heads=12, inner=3072):
            super().__init__()
            self.heads = heads
            self.query, self.key, self.value, self.out = (torch.nn.Linear(width, width) for _ in range(4))
            self.up, self.down = torch.nn.Linear(width, inner), torch.nn.Linear(inner, width)
            self.norm1, self.norm2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)

        def split(self, x):
            return x.view(1, -1, self.heads, x.size(2) // self.heads).permute(0, 2, 1, 3)

        def forward(self, x):
            q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
            weights = torch.softmax(torch.matmul(q, k.transpose(-1, -2)) / 8.0, -1)
            context = torch.matmul(weights, v).permute(0, 2, 1, 3).reshape(1, -1, x.size(2))
            x = self.norm1(x + self.out(context))
            return self.norm2(x + self.down(torch.nn.functional.gelu(self.up(x))))

    def __init__(self):
        super().__init__()
        self.words, self.places = torch.nn.Embedding(30522, 768), torch.nn.Embedding(512, 768)
        self.norm = torch.nn.LayerNorm(768)
        self.layers = torch.nn.Sequential(*(self.Layer() for _ in range(12)))
        self.register_buffer("position", torch.arange(128))

    def forward(self, tokens):
        return self.layers(self.norm(self.words(tokens) + self.places(self.position)))


class Holder(torch.nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.register_buffer("inputs", inputs)

    def forward(self, x):
        return x


def model_and_inputs(name):
    if name == "bert":
        torch.manual_seed(0)
        return Encoder().eval(), torch.randint(0, 30522, (8, 128))
    from make_torchvision_trace import model_of

    return model_of(name, 224), torch.randn(8, 3, 224, 224)


def convert_with_torchao(model, inputs, engine):
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.fx.custom_config import PrepareCustomConfig
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    torch.backends.quantized.engine = engine
    whole = PrepareCustomConfig().set_non_traceable_module_classes([torch.nn.MultiheadAttention])
    prepared = prepare_fx(model, get_default_qconfig_mapping(engine), (inputs[:1],), prepare_custom_config=whole)
    for sample in inputs.split(1):
        prepared(sample)
    traced = torch.jit.trace(convert_fx(prepared), inputs[:1], check_trace=False)
    frozen = torch.jit.freeze(traced.eval())
    frozen(inputs[:1])
    return frozen


def make(name, folder):
    torch.set_num_threads(1)
    model, inputs = model_and_inputs(name)
    for parameter in model.parameters():  # else nn.MultiheadAttention takes a path that other tools cannot read
        parameter.requires_grad_(True)
    torch.jit.trace(model, inputs[:1], check_trace=False).save(f"{folder}/float.pt")
    torch.jit.script(Holder(inputs)).save(f"{folder}/calibration.pt")
    with torch.no_grad():
        for engine in torch.backends.quantized.supported_engines:
            if engine == "none":
                continue
            try:
                convert_with_torchao(model, inputs, engine).save(f"{folder}/torchao_{engine}.pt")
            except Exception as error:
                print(f"{name}: torch.ao, {engine}: {str(error).strip().splitlines()[0][:150]}", file=sys.stderr)


def register_symbolics():
    """What LibTorch 1.13 cannot export: weights in a narrow range, and attention as one operator."""
    from torch.onnx import register_custom_op_symbolic, symbolic_helper

    def pair(g, x, scale, zero_point, axis=None):
        extra = {} if axis is None else {"axis_i": axis}
        return g.op("DequantizeLinear", g.op("QuantizeLinear", x, scale, zero_point, **extra), scale, zero_point,
                    **extra)

    def constant(g, value, dtype):
        tensor = symbolic_helper._get_const(value, "t", "") if symbolic_helper._is_value(value) else value
        return g.op("Constant", value_t=torch.as_tensor(tensor).to(dtype))

    def code_type(low):
        return torch.int8 if symbolic_helper._get_const(low, "i", "quant_min") < 0 else torch.uint8

    def per_tensor(g, x, scale, zero_point, low, high):
        return pair(g, x, constant(g, scale, torch.float), constant(g, zero_point, code_type(low)))

    def per_channel(g, x, scale, zero_point, axis, low, high):
        return pair(g, x, constant(g, scale, torch.float), constant(g, zero_point, code_type(low)),
                    symbolic_helper._get_const(axis, "i", "axis"))

    def attention(g, q, k, v, *_):
        width = symbolic_helper._get_tensor_dim_size(q, -1)
        q = g.op("Mul", q, g.op("Constant", value_t=torch.tensor(float(width) ** -0.5)))
        scores = g.op("MatMul", q, g.op("Transpose", k, perm_i=[0, 1, 3, 2]))
        weights = g.op("Softmax", scores, axis_i=-1)
        return g.op("MatMul", weights, v), weights

    for name, function in {"fake_quantize_per_tensor_affine": per_tensor, "fake_quantize_per_channel_affine": per_channel,
                           "_scaled_dot_product_attention": attention}.items():
        register_custom_op_symbolic(f"aten::{name}", function, 13)


def export(folder):
    register_symbolics()
    inputs = torch.jit.load(f"{folder}/calibration.pt").inputs[:1]
    for name in ("float", "fake_quantize"):
        try:
            module = torch.jit.load(f"{folder}/{name}.pt").eval()
            if name == "float":
                module = torch.jit.freeze(module)
            torch.onnx.export(module, (inputs,), f"{folder}/{name}.onnx", opset_version=13, input_names=["x"])
            if name != "float":
                store_integers(f"{folder}/{name}.onnx")
        except Exception as error:
            pathlib.Path(f"{folder}/{name}.onnx").unlink(missing_ok=True)
            print(f"{name}: not exported: {str(error).strip().splitlines()[0][:200]}", file=sys.stderr)


def store_integers(path):
    """ONNX Runtime computes with integers only where weights and biases are stored as such, behind DequantizeLinear."""
    import numpy
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    graph = model.graph
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    values.update({n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in graph.node
                   if n.op_type == "Constant" and n.attribute[0].type == onnx.AttributeProto.TENSOR})
    made = {n.output[0]: n for n in graph.node}
    nodes = []

    def add(name, array):
        array = numpy.asarray(array)
        graph.initializer.append(numpy_helper.from_array(array, name))
        values[name] = array
        return name

    def dequantized(name, codes, scale, zero_point, axis):
        inputs = [add(f"{name}_codes", codes), add(f"{name}_scale", scale), add(f"{name}_zero", zero_point)]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}_real"],
                                      **({} if scale.ndim == 0 else {"axis": axis})))
        return f"{name}_real"

    def scale_of(name):
        node = made.get(name)
        return values[node.input[1]] if node is not None and node.op_type == "DequantizeLinear" else None

    def weight_of(name):
        """(codes, scales, axis) of a weight, which Transpose may follow; None for what is no weight."""
        node, turned = made.get(name), False
        if node is not None and node.op_type == "Transpose":
            node, turned = made.get(node.input[0]), True
        if node is None or node.op_type != "DequantizeLinear" or made[node.input[0]].op_type != "QuantizeLinear":
            return None
        quantize = made[node.input[0]]
        if quantize.input[0] not in values:
            return None
        axis = next((a.i for a in quantize.attribute if a.name == "axis"), 0)
        scale = values[quantize.input[1]]
        real = values[quantize.input[0]]
        shape = [-1 if d == axis else 1 for d in range(real.ndim)] if scale.ndim else []
        codes = numpy.clip(numpy.rint(real / scale.reshape(shape)), -127, 127).astype(numpy.int8)
        if turned:
            codes, axis = numpy.ascontiguousarray(codes.T), codes.ndim - 1 - axis
        return codes, scale, axis

    # Activations of depthwise convolutions have a scale per channel here, which ONNX Runtime does not take.
    coarse = {n.input[0]: values[n.input[1]].max() for n in graph.node
              if n.op_type == "QuantizeLinear" and n.input[0] not in values and values[n.input[1]].ndim}
    for index, node in enumerate(list(graph.node)):
        source = node.input[0] if node.op_type == "QuantizeLinear" else ""
        if node.op_type == "DequantizeLinear" and node.input[0] in made:
            source = made[node.input[0]].input[0]
        if source in coarse and node.input[1] in values and values[node.input[1]].ndim:
            zero_point = values[node.input[2]]
            node.input[1] = add(f"scale_{index}", numpy.float32(coarse[source]))
            node.input[2] = add(f"zero_{index}", zero_point.reshape(-1)[0])
            del node.attribute[:]
        found = weight_of(node.input[1]) if node.op_type in ("Conv", "Gemm", "MatMul") else None
        if found is not None:
            codes, scale, axis = found
            node.input[1] = dequantized(f"weight_{index}", codes, scale, numpy.zeros_like(scale, numpy.int8), axis)
            inputs = scale_of(node.input[0])
            if len(node.input) > 2 and inputs is not None:
                fine = (inputs * scale).astype(numpy.float32)
                bias = numpy.rint(values[node.input[2]] / fine).astype(numpy.int32)
                node.input[2] = dequantized(f"bias_{index}", bias, fine, numpy.zeros_like(fine, numpy.int32), 0)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path)


class OnnxRuntime:
    """A process of node that runs a model once for every line that it reads, and answers with the milliseconds."""

    def __init__(self, node, model, inputs):
        shape = ",".join(map(str, inputs.shape))
        kind = "int64" if inputs.dtype == torch.int64 else "float32"
        script = str(pathlib.Path(__file__).with_name("onnx_peer.mjs"))
        self.process = subprocess.Popen(["node", script, node, model, shape, kind],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"ONNX Runtime does not run {model}; what it says: node {script} {node} {model} {shape} "
                               f"{kind}")

    def __call__(self):
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def torch_runner(path, inputs, optimize):
    engine = path.stem.split("_", 1)[1] if path.stem.startswith("torchao") else "none"

    def select():
        if engine != "none":
            torch.backends.quantized.engine = engine

    select()
    module = torch.jit.load(str(path)).eval()
    if optimize:
        module = torch.jit.optimize_for_inference(torch.jit.freeze(module))

    def run():
        select()
        with torch.inference_mode():
            start = time.perf_counter()
            module(inputs)
            return (time.perf_counter() - start) * 1e3

    return run


def measure(folder, node):
    """The least milliseconds of every file of the folder, in turns."""
    torch.set_num_threads(1)
    folder = pathlib.Path(folder)
    inputs = torch.jit.load(str(folder / "calibration.pt")).inputs[:1]
    runners = {"float": torch_runner(folder / "float.pt", inputs, True)}
    for path in sorted(folder.glob("torchao_*.pt")) + [folder / "tsquant.pt"]:
        runners[path.stem] = torch_runner(path, inputs, False)
    runtimes = {}
    for name in ("float", "fake_quantize") if node else ():
        if (folder / f"{name}.onnx").exists():
            try:
                runtimes[f"onnxruntime {name}"] = OnnxRuntime(node, str(folder / f"{name}.onnx"), inputs)
            except RuntimeError as error:
                print(error, file=sys.stderr)
    runners.update(runtimes)
    best = dict.fromkeys(runners, float("inf"))
    for turn in range(WARM_UP + ROUNDS):
        for name, run in runners.items():
            milliseconds = run()
            if turn >= WARM_UP:
                best[name] = min(best[name], milliseconds)
    for runtime in runtimes.values():
        runtime.close()
    return best


def run(folder, ops, node):
    torch.ops.load_library(ops)
    best = measure(folder, node)
    print(json.dumps({k: round(v, 2) for k, v in best.items()}), file=sys.stderr)
    peers = {k: v for k, v in best.items() if k.startswith("torchao") or k == "onnxruntime fake_quantize"}
    torchao = [v for k, v in peers.items() if k.startswith("torchao")]
    times = lambda ms: f"{best['float'] / ms:.2f}" if ms else "-"
    cells = [times(best["tsquant"]), times(min(torchao, default=0)), times(best.get("onnxruntime float", 0)),
             times(best.get("onnxruntime fake_quantize", 0)),
             f"{min(peers.values()) / best['tsquant']:.2f}" if peers else "-"]
    print(" | ".join(cells))


if __name__ == "__main__":
    {"make": make, "export": export, "run": run}[sys.argv[1]](*sys.argv[2:])
