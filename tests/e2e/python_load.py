"""Loads the operator library into Python and runs operators, directly and from TorchScript.

usage: python_load.py LIBRARY; exit code 77 when torch is not installed.
"""
import io
import sys

try:
    import torch
except ImportError:
    sys.exit(77)

torch.ops.load_library(sys.argv[1])
torch.manual_seed(0)
ops = torch.ops.quantized_decomposed

x = torch.randn(3, 8, 5, 5)
q = ops.quantize_per_tensor(x, 0.05, 3, -128, 127, torch.int8)
expected = torch.quantize_per_tensor(x, 0.05, 3, torch.qint8)
assert torch.equal(q, expected.int_repr())
assert torch.equal(ops.dequantize_per_tensor(q, 0.05, 3, -128, 127, torch.int8), expected.dequantize())

scales, zero_points = torch.rand(8) + 0.01, torch.randint(0, 255, (8,))
q = ops.quantize_per_channel(x, scales, zero_points, 1, 0, 255, torch.uint8)
expected = torch.quantize_per_channel(x, scales, zero_points, 1, torch.quint8)
assert torch.equal(q, expected.int_repr())
assert torch.equal(ops.dequantize_per_channel(q, scales, zero_points, 1, 0, 255, torch.uint8), expected.dequantize())


class Decomposed(torch.nn.Module):
    def forward(self, x):
        scale, zero_point = torch.ops.quantized_decomposed.choose_qparams(x, 0, 255, 1e-7, torch.uint8)
        q = torch.ops.quantized_decomposed.quantize_per_tensor(x, scale, zero_point, 0, 255, torch.uint8)
        return torch.ops.quantized_decomposed.dequantize_per_tensor(q, scale, zero_point, 0, 255, torch.uint8)


module = torch.jit.script(Decomposed())
archive = io.BytesIO()
torch.jit.save(module, archive)
archive.seek(0)
again = torch.jit.load(archive)
assert torch.equal(module(x), again(x))
assert 0 < (again(x) - x).abs().max() < 0.03
