#!/usr/bin/env python3
"""Small networks whose forward calls other code by torch.jit.fork or through a module interface, for
tests/unit/graph/flatten_calls_test.cpp and tests/unit/flows/call_models_test.cpp.

Run with a Python that has torch 1.13.1: scripts/make_call_models.py [OUTPUT_FOLDER]
"""
import pathlib
import sys
from typing import List, Tuple

import torch
import torch.nn.functional as F
from torch import nn

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/data/traces/calls")


class Block(nn.Module):
    """Forks one of its own methods."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 8, 3, padding=1)
        self.d = nn.Conv2d(8, 8, 1)

    def helper(self, x):
        return F.relu(self.c(x))

    def forward(self, x):
        future = torch.jit.fork(self.helper, x)
        return self.d(torch.jit.wait(future))


class Fork(nn.Module):
    """One branch runs beside the other."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(3, 8, 3, padding=1)
        self.c = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        future = torch.jit.fork(self.a, x)
        return self.c(F.relu(self.b(x) + torch.jit.wait(future)))


class ForkNested(nn.Module):
    """What is forked forks again."""

    def __init__(self):
        super().__init__()
        self.p = Block()
        self.q = Block()
        self.c = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        first = torch.jit.fork(self.p, x)
        second = torch.jit.fork(self.q, x)
        return self.c(torch.jit.wait(first) + torch.jit.wait(second))


class ForkList(nn.Module):
    """Futures in a list."""

    def __init__(self):
        super().__init__()
        self.m = nn.ModuleList([Block() for _ in range(3)])
        self.c = nn.Conv2d(24, 4, 1)

    def forward(self, x):
        futures: List[torch.jit.Future[torch.Tensor]] = []
        for m in self.m:
            futures.append(torch.jit.fork(m, x))
        results = [torch.jit.wait(f) for f in futures]
        return self.c(torch.cat(results, 1))


class ForkControl(nn.Module):
    """Forks in a loop and in a branch."""

    def __init__(self):
        super().__init__()
        self.m = nn.Conv2d(3, 3, 3, padding=1)
        self.c = nn.Conv2d(3, 4, 1)

    def forward(self, x, n: int = 2):
        for _ in range(n):
            future = torch.jit.fork(self.m, x)
            x = x + torch.jit.wait(future)
        if n > 1:
            future = torch.jit.fork(self.m, x)
            x = F.relu(torch.jit.wait(future))
        return self.c(x)


def convolve(x: torch.Tensor, w: torch.Tensor):
    return F.relu(F.conv2d(x, w))


def convolve_twice(x: torch.Tensor, w: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    y = torch.jit.wait(torch.jit.fork(convolve, x, w))
    return y, y * 2


class ForkFunction(nn.Module):
    """A fork of a function with two results that forks another one."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(8, 3, 3, 3))
        self.c = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        a, b = torch.jit.wait(torch.jit.fork(convolve_twice, x, self.w))
        return self.c(a + b)


class ForkElsewhere(nn.Module):
    """Another method forks what forward calls."""

    def __init__(self):
        super().__init__()
        self.b = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x):
        return F.relu(self.b(x))

    @torch.jit.export
    def second(self, x):
        return torch.jit.wait(torch.jit.fork(self.b, x))


@torch.jit.interface
class Activation(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pass


class Act1(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.c(x))


class Act2(nn.Module):
    def __init__(self):
        super().__init__()
        self.d = nn.Conv2d(8, 8, 3, padding=1)
        self.k = 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.d(x)) * self.k


class WithActivation(nn.Module):
    act: Activation

    def __init__(self, act):
        super().__init__()
        self.a = nn.Conv2d(8, 8, 1)
        self.act = act

    def forward(self, x):
        return self.act.forward(self.a(x))


class Frame(nn.Module):
    """A first and a last layer."""

    def __init__(self):
        super().__init__()
        self.i = nn.Conv2d(3, 8, 3)
        self.o = nn.Conv2d(8, 4, 1)


class Interface(Frame):
    act: Activation

    def __init__(self):
        super().__init__()
        self.act = Act1()

    def forward(self, x):
        return self.o(self.act.forward(self.i(x)))


class InterfaceTwo(Frame):
    """Two modules of one type whose interface attributes hold different modules."""

    def __init__(self):
        super().__init__()
        self.n = nn.ModuleList([WithActivation(Act1()), WithActivation(Act2())])

    def forward(self, x):
        x = self.i(x)
        for m in self.n:
            x = m(x)
        return self.o(x)


class InterfaceIndex(Frame):
    """The module is taken out of a list by a running number."""

    def __init__(self):
        super().__init__()
        self.n = nn.ModuleList([Act1(), Act2()])

    def forward(self, x):
        x = self.i(x)
        for i in range(2):
            m: Activation = self.n[i]
            x = m.forward(x)
        return self.o(x)


class InterfaceKey(Frame):
    """The module is taken out of a dictionary by name."""

    def __init__(self):
        super().__init__()
        self.n = nn.ModuleDict({"u": Act1(), "v": Act2()})

    def forward(self, x, which: str = "v"):
        m: Activation = self.n[which]
        return self.o(m.forward(self.i(x)))


def through(m: Activation, x: torch.Tensor):
    return m.forward(x) * 0.5


class InterfaceArgument(Interface):
    """The module is an argument of a function."""

    def forward(self, x):
        return self.o(through(self.act, self.i(x)))


class InterfaceFork(Interface):
    def forward(self, x):
        future = torch.jit.fork(self.act.forward, self.i(x))
        return self.o(torch.jit.wait(future))


class InterfaceAssigned(Frame):
    """Forward changes which module answers."""

    a: Activation
    b: Activation

    def __init__(self):
        super().__init__()
        self.a = Act1()
        self.b = Act2()

    def forward(self, x):
        x = self.i(x)
        self.a = self.b
        return self.o(self.a.forward(x))


OUT.mkdir(parents=True, exist_ok=True)
for make in (Fork, ForkElsewhere, ForkNested, ForkList, ForkControl, ForkFunction, Interface, InterfaceTwo,
             InterfaceIndex, InterfaceKey, InterfaceArgument, InterfaceFork, InterfaceAssigned):
    torch.manual_seed(1)
    torch.jit.script(make().eval()).save(str(OUT / f"{make.__name__}.pt"))
torch.manual_seed(1)
torch.jit.trace(Fork().eval(), torch.randn(1, 3, 10, 10)).save(str(OUT / "ForkTraced.pt"))
