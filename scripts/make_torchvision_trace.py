#!/usr/bin/env python3
"""Traces a torchvision model with random weights: make_torchvision_trace.py resnet18 OUT.pt [SIZE]

Needs Debian's python3-torch and python3-torchvision. Only used to make a well-known network for measurements.
"""
import sys
import warnings

import torch
import torchvision

warnings.filterwarnings("ignore")


def main():
    name, path = sys.argv[1:3]
    size = int(sys.argv[3]) if len(sys.argv) > 3 else 224
    torch.manual_seed(0)
    kwargs = {"init_weights": True} if name in ("inception_v3", "googlenet") else {}
    model = getattr(torchvision.models, name)(weights=None, **kwargs).eval()
    with torch.no_grad():
        torch.jit.trace(model, torch.randn(1, 3, size, size), check_trace=False).save(path)


if __name__ == "__main__":
    main()
