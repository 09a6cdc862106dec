"""Quantizes a network with a custom module by torch.ao's FX flow and writes what it computes.

usage: python_custom_module.py FLOAT.pt OUT.pt; exit code 77 when torch is not installed.

FLOAT.pt is the network as TorchScript. OUT.pt is a TorchScript module whose dictionary `records` has the calibration
samples `sample/i`, `prepared/i` (results of the prepared model), `reference` (of the converted model for sample 0),
`scale` and `zero_point` of the custom module's result, and `modules_after_fusing`: how many custom modules prepare_fx
finds in what fuse_fx returns.
"""
import sys

try:
    import torch
    from torch.ao.quantization import MinMaxObserver, QConfig, QConfigMapping, default_per_channel_weight_observer
    from torch.ao.quantization.fx.custom_config import ConvertCustomConfig, PrepareCustomConfig
    from torch.ao.quantization.quantize_fx import convert_to_reference_fx, fuse_fx, prepare_fx

    from python_records import save_records
except ImportError:
    sys.exit(77)


class Block(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(weight)

    def forward(self, x, factor: float):
        return torch.relu(torch.conv2d(x, self.weight)) * factor + x


class ObservedBlock(Block):
    @classmethod
    def from_float(cls, block):
        observed = cls(block.weight.detach())
        observed.qconfig = block.qconfig
        return observed


class QuantizedBlock(Block):
    @classmethod
    def from_observed(cls, observed):
        quantized = cls(observed.weight.detach())
        scale, zero_point = observed.activation_post_process.calculate_qparams()
        quantized.scale, quantized.zero_point = float(scale), int(zero_point)
        return quantized

    def forward(self, x, factor: float):
        r = x.dequantize()
        y = torch.relu(torch.conv2d(r, self.weight)) * factor + r
        return torch.quantize_per_tensor(y, self.scale, self.zero_point, torch.quint8)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 4, 3)
        self.norm = torch.nn.BatchNorm2d(8)
        self.block = Block(torch.randn(8, 8, 1, 1) * 0.3)

    def forward(self, x):
        return self.last(self.block(self.norm(self.first(x)), 2.0))


def main():
    float_path, out_path = sys.argv[1:]
    torch.manual_seed(5)
    torch.set_num_threads(1)
    net = Net()
    net.norm.running_mean.normal_()
    net.norm.running_var.uniform_(0.5, 1.5)
    net.eval()
    torch.jit.script(net).save(float_path)
    samples = [torch.randn(2, 3, 12, 12) for _ in range(4)]
    mapping = QConfigMapping().set_global(
        QConfig(activation=MinMaxObserver, weight=default_per_channel_weight_observer))
    custom = PrepareCustomConfig().set_float_to_observed_mapping(Block, ObservedBlock)
    prepared = prepare_fx(net, mapping, (samples[0],), custom)
    records = {}
    with torch.no_grad():
        for i, sample in enumerate(samples):
            records[f"sample/{i}"], records[f"prepared/{i}"] = sample, prepared(sample)
        convert = ConvertCustomConfig().set_observed_to_quantized_mapping(ObservedBlock, QuantizedBlock)
        converted = convert_to_reference_fx(prepared, convert)
        records["reference"] = converted(samples[0])
    records["scale"] = torch.tensor(converted.block.scale, dtype=torch.float64)
    records["zero_point"] = torch.tensor(converted.block.zero_point)
    after = prepare_fx(fuse_fx(net), mapping, (samples[0],), custom)
    found = sum(isinstance(module, ObservedBlock) for module in after.modules())
    records["modules_after_fusing"] = torch.tensor(found)
    save_records(records, out_path)


main()
