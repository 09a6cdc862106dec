"""Quantizes and compresses a model with the program and runs every form in Python.

usage: python_model.py LIBRARY PROGRAM; exit code 77 when torch is not installed.
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
    library, program = sys.argv[1:3]
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    folder = pathlib.Path(tempfile.mkdtemp())
    module = torch.jit.script(Net().eval())
    module.save(str(folder / "model.pt"))
    samples = torch.randn(8, 3, 12, 12)
    torch.save(samples, str(folder / "samples.pt"))
    outputs = {}
    compressed = run_compressed(folder, program, samples, "reference")  # before any library of ours is loaded
    for form in ["reference", "fake_quantize", "decomposed", "lowered"]:
        if form == "decomposed":  # the first two forms must run before any library of ours is loaded
            torch.ops.load_library(library)
        file = str(folder / (form + ".pt"))
        command = [program, "quantize", str(folder / "model.pt"), "-o", file, "--data", str(folder / "samples.pt")]
        subprocess.run(command + ["--form", form, "--json", str(folder / "report.json")], check=True)
        outputs[form] = torch.jit.load(file)(samples)
    expected = module(samples)
    for form, output in outputs.items():
        error = ((output - expected).norm() / expected.norm()).item()
        assert 0 < error < 0.05, (form, error)
    assert torch.equal(outputs["decomposed"], outputs["reference"])
    check_engines(folder, program, samples, outputs["lowered"])
    error = ((compressed - expected).norm() / expected.norm()).item()
    assert 0 < error < 0.2, error
    assert (run_compressed(folder, program, samples, "lowered") - compressed).abs().max() < 1e-3


def run_compressed(folder, program, samples, form):
    file = str(folder / ("compressed_" + form + ".pt"))
    options = ["--mode", "int4_asym", "--group-size", "4", "--all-layers", "--form", form]
    report = ["--json", str(folder / "compressed.json")]
    subprocess.run([program, "compress", str(folder / "model.pt"), "-o", file] + options + report, check=True)
    return torch.jit.load(file)(samples)


def check_engines(folder, program, samples, expected):
    """The default file gives the same bytes under every engine; a file for one engine loads under that one only."""
    engines = [e for e in torch.backends.quantized.supported_engines if e != "none"]
    for engine in engines:
        torch.backends.quantized.engine = engine
        assert torch.equal(torch.jit.load(str(folder / "lowered.pt"))(samples), expected), engine
    if "qnnpack" not in engines:
        return
    file = str(folder / "qnnpack.pt")
    command = [program, "quantize", str(folder / "model.pt"), "-o", file, "--data", str(folder / "samples.pt")]
    subprocess.run(command + ["--form", "lowered", "--engine", "qnnpack", "--json", str(folder / "q.json")], check=True)
    for engine in engines:
        torch.backends.quantized.engine = engine
        try:
            output = torch.jit.load(file)(samples)
        except Exception as error:
            assert engine != "qnnpack" and "torch.backends.quantized.engine = 'qnnpack'" in str(error), error
        else:
            assert engine == "qnnpack", engine
            assert (output - expected).abs().max() < 0.2 * expected.abs().max()


if __name__ == "__main__":
    main()
