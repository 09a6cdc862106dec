#!/usr/bin/env python3
"""Small recurrent networks, compiled from source and traced, for tests/unit/prepare/scripted_recurrent_test.cpp.

Run with a Python that has torch 1.13.1: scripts/make_recurrent_models.py [OUTPUT_FOLDER]

NAME.pt is compiled: its layers read their weights from the list `_flat_weights`. NAME_traced.pt is a trace of the same
network; there is none of cells, of which tracing leaves only their parts. The archives hold no debug records, which are paths of the machine that wrote them."""
import pathlib
import sys
import zipfile
from typing import List

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/data/traces/recurrent")
FEATURES, UNITS, STEPS, BATCH = 6, 8, 5, 3


class Lstm(nn.Module):
    """Two layers, both directions, the batch first, and what comes after them."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, UNITS, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * UNITS, 3)

    def forward(self, x):
        y, (hidden, cell) = self.rnn(x)
        return self.head(y) + hidden.mean() - cell.mean()


class Gru(nn.Module):
    """One layer without biases that is given its first state."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(FEATURES, UNITS, bias=False)

    def forward(self, x):
        first = torch.full([1, x.size(1), self.rnn.hidden_size], 0.25)
        return self.rnn(x, first)[0]


class Projected(nn.Module):
    """Its hidden state is narrower than its cells."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, 2 * UNITS, proj_size=UNITS)

    def forward(self, x):
        return self.rnn(x)[0]


class Branch(nn.Module):
    """One of two layers runs, as the caller says."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, UNITS)
        self.gru = nn.GRU(FEATURES, UNITS)

    def forward(self, x, second: bool):
        if second:
            y, _ = self.gru(x)
        else:
            y, _ = self.lstm(x)
        return y


class Cells(nn.Module):
    """A loop over the steps of a sequence."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTMCell(FEATURES, UNITS)
        self.gru = nn.GRUCell(UNITS, UNITS, bias=False)
        self.rnn = nn.RNNCell(UNITS, UNITS)

    def forward(self, x):
        first = torch.zeros([x.size(1), self.lstm.hidden_size])
        hidden, cell, second, third = first, first, first, first
        results: List[torch.Tensor] = []
        for step in range(x.size(0)):
            hidden, cell = self.lstm(x[step], (hidden, cell))
            second = self.gru(hidden, second)
            third = self.rnn(second, third)
            results.append(third)
        return torch.stack(results)


class Packed(nn.Module):
    """Sequences of several lengths, without the padding."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, UNITS, bidirectional=True)
        self.gru = nn.GRU(2 * UNITS, UNITS)

    def forward(self, x, lengths):
        packed, _ = self.lstm(pack_padded_sequence(x, lengths, enforce_sorted=False))
        packed, last = self.gru(packed)
        return pad_packed_sequence(packed)[0] + last.mean()


def save(name, module):
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{name}.pt"
    module.save(str(path))
    with zipfile.ZipFile(path) as archive:
        records = {record: archive.read(record) for record in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for record, content in records.items():
            if not record.endswith(".debug_pkl"):
                archive.writestr(zipfile.ZipInfo(record), content)


def main():
    torch.manual_seed(0)
    steps_first = torch.randn(STEPS, BATCH, FEATURES)
    examples = {
        "lstm": (Lstm(), (steps_first.transpose(0, 1),)),
        "gru": (Gru(), (steps_first,)),
        "projected": (Projected(), (steps_first,)),
        "cells": (Cells(), (steps_first,)),
        "packed": (Packed(), (steps_first, torch.tensor([3, 5, 2]))),
    }
    for name, (network, inputs) in examples.items():
        network.eval()
        save(name, torch.jit.script(network))
        if name != "cells":
            save(name + "_traced", torch.jit.trace(network, inputs))
    save("branch", torch.jit.script(Branch().eval()))
    save("lstm_frozen", torch.jit.freeze(torch.jit.script(examples["lstm"][0])))
    save("lstm_traced_frozen", torch.jit.freeze(torch.jit.trace(*examples["lstm"])))
    # The list keeps the tensors that the layer computes with.
    moved = torch.jit.script(examples["gru"][0])
    moved.rnn.weight_ih_l0 = nn.Parameter(torch.zeros_like(moved.rnn.weight_ih_l0))
    save("gru_moved", moved)


if __name__ == "__main__":
    main()
