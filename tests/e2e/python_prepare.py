"""Calibrates a prepared model in Python, without any library of ours, and converts it with the program.

usage: python_prepare.py PROGRAM; exit code 77 when torch is not installed.
"""
import pathlib
import subprocess
import sys
import tempfile

try:
    import torch
except ImportError:
    sys.exit(77)

from python_net import Net


def main():
    program = sys.argv[1]
    torch.manual_seed(0)
    torch.set_num_threads(1)
    folder = pathlib.Path(tempfile.mkdtemp())
    torch.jit.script(Net().eval()).save(str(folder / "model.pt"))
    samples = torch.randn(8, 3, 12, 12)
    torch.save(samples, str(folder / "samples.pt"))

    def run(command, *arguments):
        subprocess.run([program, command, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)

    for quantizer in ["openvino", "x86_inductor", "xnnpack", "fx"]:
        prepare = [folder / "model.pt", "--data", folder / "samples.pt", "--quantizer", quantizer, "-o"]
        run("prepare", *prepare, folder / "empty.pt")
        module = torch.jit.load(str(folder / "empty.pt"))
        with torch.no_grad():
            for sample in samples:
                module(sample[None])
        module.save(str(folder / "detour.pt"))
        run("prepare", *prepare, folder / "straight.pt", "--calibrate", 8)
        for name in ["detour", "straight"]:
            run("convert", folder / f"{name}.pt", "-o", folder / f"{name}_int8.pt", "--form", "reference")
        same = (folder / "detour_int8.pt").read_bytes() == (folder / "straight_int8.pt").read_bytes()
        assert same, f"{quantizer}: calibrating in Python gives another file"


main()
