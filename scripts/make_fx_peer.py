#!/usr/bin/env python3
"""The lowered FX model against torch.ao's own: make_fx_peer.py MODEL FOLDER | make_fx_peer.py --compare FOLDER OPS

First form: writes FOLDER/float.pt (a trace), FOLDER/calibration.pt and FOLDER/torchao.pt: prepare_fx, calibration and
convert_fx of torch.ao, traced and frozen. Second form: times float (frozen, optimize_for_inference), torch.ao's and
FOLDER/tsquant.pt, which needs the operator library OPS, in turns, on one thread; prints ratios.
Needs Debian's python3-torch and python3-torchvision.
"""
import sys
import time
import warnings

import torch

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
ENGINE = "onednn"


def make(name, folder):
    from make_torchvision_trace import model_of
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    torch.backends.quantized.engine = ENGINE
    model = model_of(name, 224)
    images = torch.randn(8, 3, 224, 224)
    with torch.no_grad():
        torch.jit.trace(model, images[:1], check_trace=False).save(f"{folder}/float.pt")
        data = torch.jit.script(Holder(images))
        data.save(f"{folder}/calibration.pt")
        prepared = prepare_fx(model, get_default_qconfig_mapping(ENGINE), (images[:1],))
        for image in images.split(1):
            prepared(image)
        traced = torch.jit.trace(convert_fx(prepared), images[:1], check_trace=False)
        torch.jit.save(torch.jit.freeze(traced.eval()), f"{folder}/torchao.pt")


class Holder(torch.nn.Module):
    def __init__(self, images):
        super().__init__()
        self.register_buffer("images", images)

    def forward(self, x):
        return x


def compare(folder, ops):
    torch.ops.load_library(ops)
    torch.backends.quantized.engine = ENGINE
    models = {name: torch.jit.load(f"{folder}/{name}.pt").eval() for name in ("float", "torchao", "tsquant")}
    models["float"] = torch.jit.optimize_for_inference(models["float"])
    image = torch.jit.load(f"{folder}/calibration.pt").images[:1]
    best = dict.fromkeys(models, float("inf"))
    with torch.no_grad():
        for turn in range(23):
            for name, model in models.items():
                start = time.perf_counter()
                model(image)
                if turn >= 3:
                    best[name] = min(best[name], time.perf_counter() - start)
    print(f"{best['float'] / best['torchao']:.2f} {best['float'] / best['tsquant']:.2f} "
          f"{best['torchao'] / best['tsquant']:.2f}")


if __name__ == "__main__":
    if sys.argv[1] == "--compare":
        compare(*sys.argv[2:4])
    else:
        make(*sys.argv[1:3])
