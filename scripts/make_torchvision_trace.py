#!/usr/bin/env python3
"""Traces a torchvision model with random weights: make_torchvision_trace.py resnet18 OUT.pt [SIZE] [--skeleton]

Needs Debian's python3-torch and python3-torchvision. Only used to make a well-known network for measurements.
--skeleton keeps one element per weight (tensors with strides of zero), for a small file that shows structure only.
"""
import sys
import warnings

import torch
import torchvision

warnings.filterwarnings("ignore")


def model_of(name, size, skeleton=False):
    """In evaluation mode, always with the same weights."""
    torch.manual_seed(0)
    kwargs = {"init_weights": True} if name in ("inception_v3", "googlenet") else {}
    model = getattr(torchvision.models, name)(weights=None, **kwargs).eval()
    if skeleton:
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.data = torch.full([], 0.5).to(tensor.dtype).expand(tensor.shape)
        return model
    model.train()  # batch norms that have seen data, or activations shrink to nothing from layer to layer
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, size, size))
    return model.eval()


def main():
    skeleton = "--skeleton" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--skeleton"]
    name, path = arguments[:2]
    size = int(arguments[2]) if len(arguments) > 2 else 224
    model = model_of(name, size, skeleton)
    with torch.no_grad():
        torch.jit.trace(model, torch.randn(1, 3, size, size), check_trace=False).save(path)


if __name__ == "__main__":
    main()
