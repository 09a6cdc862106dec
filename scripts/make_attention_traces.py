#!/usr/bin/env python3
"""Writes small models with attention to a folder (tests/data/traces): traces hold LibTorch's fused operators when
gradients are off, and their parts otherwise. Needs python3-torch 1.13.

usage: make_attention_traces.py OUT_FOLDER

encoder_fused.pt, encoder_parts.pt   two nn.TransformerEncoderLayer (relu, then norm first and gelu) and a classifier
encoder_scripted.pt                  the same, compiled from source: both spellings in branches
encoder_padded.pt                    nn.TransformerEncoder with a padding mask: nested tensors between the layers
weights_fused.pt, weights_parts.pt   nn.MultiheadAttention with a padding mask, returns the attention weights too"""
import pathlib
import sys

import torch
from torch import nn

SIZE, HEADS, HIDDEN, LENGTH, BATCH = 32, 4, 48, 10, 2


def layer(**options):
    return nn.TransformerEncoderLayer(SIZE, HEADS, HIDDEN, batch_first=True, **options)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(6, SIZE)
        self.first = layer()
        self.second = layer(norm_first=True, activation="gelu")
        self.head = nn.Linear(SIZE, 5)

    def forward(self, x):
        x = self.second(self.first(self.embed(x)))
        return self.head(x.mean(1))


class PaddedEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(6, SIZE)
        self.encoder = nn.TransformerEncoder(layer(), 2)

    def forward(self, x, padding):
        return self.encoder(self.embed(x), src_key_padding_mask=padding)


class AttentionWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(6, SIZE)
        self.attention = nn.MultiheadAttention(SIZE, HEADS, batch_first=True)

    def forward(self, x, padding):
        x = self.embed(x)
        return self.attention(x, x, x, key_padding_mask=padding)


def spread(model):
    """Fresh layers have zero biases and equal norms; trained ones do not."""
    for name, parameter in model.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter, std=0.2)
        elif "norm" in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model.eval()


def trace(model, *inputs, fused=True):
    with torch.set_grad_enabled(not fused):
        return torch.jit.trace(model, inputs, check_trace=False)


def main():
    out = pathlib.Path(sys.argv[1])
    torch.manual_seed(0)
    x = torch.randn(BATCH, LENGTH, 6)
    padding = torch.arange(LENGTH)[None] >= torch.tensor([[LENGTH], [7]])
    encoder = spread(Encoder())
    trace(encoder, x).save(str(out / "encoder_fused.pt"))
    trace(encoder, x, fused=False).save(str(out / "encoder_parts.pt"))
    torch.jit.script(encoder).save(str(out / "encoder_scripted.pt"))
    trace(spread(PaddedEncoder()), x, padding).save(str(out / "encoder_padded.pt"))
    attention = spread(AttentionWeights())
    trace(attention, x, padding).save(str(out / "weights_fused.pt"))
    trace(attention, x, padding, fused=False).save(str(out / "weights_parts.pt"))


if __name__ == "__main__":
    main()
