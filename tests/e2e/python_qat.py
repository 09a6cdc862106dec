"""Trains the network of tests/data/fx/qat_net.pt with torch.ao and writes what every step computed.

usage: python_qat.py DATA_FOLDER BACKEND VERSION STEPS OUT.pt; exit code 77 when torch is not installed.

OUT.pt is a TorchScript module whose dictionary `records` has, for step i, `i/out`, `i/loss`, and by names `i/grad/...`,
`i/fq/...#k` (outputs of the k-th call of fake quantizes), `i/scale/...` and `i/zero_point/...`; and `batch/i`.
Gradients have the names of the network that was not prepared. What training ended in is its state dict, `state/...`, and
of its reference model `converted/...` (scales and zero points by their names there) and `converted_out` (for `batch/0`).
"""
import sys

try:
    import torch
    from torch.ao.quantization import FakeQuantizeBase, get_default_qat_qconfig_mapping, quantize_fx

    from python_records import save_records
except ImportError:
    sys.exit(77)


class QatNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.b1, self.r1 = torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.BatchNorm2d(6), torch.nn.ReLU()
        self.c2, self.b2, self.fc = torch.nn.Conv2d(6, 6, 1, bias=False), torch.nn.BatchNorm2d(6), torch.nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(self.b2(self.c2(self.r1(self.b1(self.c1(x))))).mean([2, 3]))


def original(name):
    return name.replace("c1.bn.", "b1.").replace("c2.bn.", "b2.")


def main():
    folder, backend, version, steps, out_path = sys.argv[1:]
    torch.set_num_threads(1)
    data = torch.jit.load(f"{folder}/qat_net.data.pt").state_dict()
    net = QatNet()
    net.load_state_dict({name: data["init_" + name.replace(".", "_")] for name in net.state_dict()})
    mapping = get_default_qat_qconfig_mapping(backend, version=int(version))
    module = quantize_fx.prepare_qat_fx(net.train(), mapping, (data["train0"],))
    records = {}
    key = ""

    def keep(name, output):
        calls = sum(known.startswith(f"{key}/fq/{name}#") for known in records)
        records[f"{key}/fq/{name}#{calls}"] = output.detach()

    for name, child in module.named_modules():
        if isinstance(child, FakeQuantizeBase):
            child.register_forward_hook(lambda _, __, y, name=name: keep(name, y))
    torch.manual_seed(3)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    for step in range(int(steps)):
        batch = data[f"train{step}"] if step < 4 else torch.randn(4, 3, 6, 6)
        key = str(step)
        optimizer.zero_grad()
        out = module(batch)
        loss = (out * torch.linspace(-1, 1, 4)).pow(2).mean()
        loss.backward()
        records[f"batch/{step}"], records[f"{key}/out"], records[f"{key}/loss"] = batch, out.detach(), loss.detach()
        for name, parameter in module.named_parameters():
            records[f"{key}/grad/{original(name)}"] = parameter.grad.clone()
        for name, child in module.named_modules():
            if isinstance(child, FakeQuantizeBase):
                records[f"{key}/scale/{name}"] = child.scale.clone()
                records[f"{key}/zero_point/{name}"] = child.zero_point.clone()
        optimizer.step()
    records.update({f"state/{original(name)}": value.clone() for name, value in module.state_dict().items()})
    key = "conversion"
    converted = quantize_fx.convert_to_reference_fx(module.eval())
    for name, value in converted.state_dict().items():
        if "scale" in name or "zero_point" in name:
            records[f"converted/{name}"] = value
    records["converted_out"] = converted(records["batch/0"]).detach()
    save_records(records, out_path)


main()
