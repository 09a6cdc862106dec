#!/usr/bin/env python3
"""Small networks in several spellings, for tests/unit/quantizers/spelling_traces_test.cpp.

Every function with @network is one network; each of its variants computes the same from the same weights. The file
<network>.pt holds one child per variant, traced and scripted: <variant>_traced and <variant>_scripted.

Run with a Python that has torch 1.13.1: scripts/make_spelling_traces.py [OUTPUT_FOLDER]
"""
import math
import pathlib
import sys
from typing import Optional

import torch
import torch.nn.functional as F
from torch import nn

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/data/traces/spellings")
NETWORKS = {}  # name -> ({variant: module}, example input)


def network(shape):
    def register(make):
        torch.manual_seed(1)
        variants = make()
        first = next(iter(variants.values())).eval()
        generator = torch.Generator().manual_seed(2)
        example = torch.randn(shape, generator=generator)
        with torch.no_grad():
            expected = first(example.clone())
            for name, module in variants.items():
                module.eval().load_state_dict(first.state_dict())
                torch.testing.assert_close(module(example.clone()), expected, msg=f"{make.__name__}.{name}")
        NETWORKS[make.__name__] = (variants, example)
        return make

    return register


# --- Functions that check their arguments: scripting keeps the checks as prim::If, tracing does not ---


class MlpModules(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)
        self.norm = nn.LayerNorm(16)
        self.act, self.drop = nn.ReLU(), nn.Dropout(0.3)

    def forward(self, x):
        return self.b(self.drop(self.norm(self.act(self.a(x)))))


class MlpFunctions(MlpModules):
    def forward(self, x):
        x = F.relu(F.linear(x, self.a.weight, self.a.bias))
        x = F.layer_norm(x, [16], self.norm.weight, self.norm.bias)
        return F.linear(F.dropout(x, 0.3, self.training), self.b.weight, self.b.bias)


class MlpInPlace(MlpModules):
    def forward(self, x):
        x = F.relu(F.linear(x, self.a.weight, self.a.bias), inplace=True)
        x = F.layer_norm(x, [16], self.norm.weight, self.norm.bias)
        return F.linear(F.dropout(x, 0.3, self.training, inplace=True), self.b.weight, self.b.bias)


class MlpProducts(MlpModules):
    def forward(self, x):
        x = torch.relu(torch.addmm(self.a.bias, x, self.a.weight.t()))
        x = self.norm(x)
        return torch.matmul(x, self.b.weight.transpose(0, 1)) + self.b.bias


class MlpOperators(MlpModules):
    def forward(self, x):
        x = x @ self.a.weight.t()
        x += self.a.bias
        x = self.norm(x.relu_())
        return torch.mm(x, self.b.weight.t()).add_(self.b.bias)


@network((6, 8))
def mlp():
    return {
        "modules": MlpModules(),
        "functions": MlpFunctions(),
        "in_place": MlpInPlace(),
        "products": MlpProducts(),
        "operators": MlpOperators(),
    }


class Norms(nn.Module):
    """A batch norm that cannot be folded (behind an addition), one that can, and a group norm."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1, bias=False) for i in range(3))
        self.kept, self.folded, self.group = nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.GroupNorm(2, 8)
        self.last = nn.Conv2d(8, 4, 1)
        for norm in (self.kept, self.folded):
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 2)

    def forward(self, x):
        x = self.a(x)
        y = F.relu(self.kept(x + self.b(x)))
        z = F.relu(self.folded(self.c(y)))
        return self.last(F.relu(self.group(z)))


class NormFunctions(Norms):
    def forward(self, x):
        x = F.conv2d(x, self.a.weight, None, 1, 1)
        y = x + F.conv2d(x, self.b.weight, None, 1, 1)
        k, f, g = self.kept, self.folded, self.group
        y = F.batch_norm(y, k.running_mean, k.running_var, k.weight, k.bias, self.training, 0.1, 1e-5).relu()
        z = F.conv2d(y, self.c.weight, None, 1, 1)
        z = F.batch_norm(z, f.running_mean, f.running_var, f.weight, f.bias, self.training, 0.1, 1e-5).relu()
        z = F.group_norm(z, 2, g.weight, g.bias, 1e-5).relu()
        return F.conv2d(z, self.last.weight, self.last.bias)


class NormInPlace(Norms):
    def forward(self, x):
        x = self.a(x)
        y = self.b(x)
        y += x
        y = F.relu(self.kept(y), inplace=True)
        z = F.relu_(self.folded(self.c(y)))
        return self.last(self.group(z).relu_())


@network((2, 3, 8, 8))
def norms():
    return {"modules": Norms(), "functions": NormFunctions(), "in_place": NormInPlace()}


class InstanceNorms(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        self.norm = nn.InstanceNorm2d(8, affine=True)

    def forward(self, x):
        return self.b(F.relu(self.norm(self.a(x))))


class InstanceNormFunctions(InstanceNorms):
    def forward(self, x):
        x = F.instance_norm(self.a(x), None, None, self.norm.weight, self.norm.bias)
        return self.b(x.relu_())


@network((2, 3, 8, 8))
def instance_norm():
    return {"modules": InstanceNorms(), "functions": InstanceNormFunctions()}


# --- Activations written out ---


class TwoConvolutions(nn.Module):
    def __init__(self, act: nn.Module):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        self.act = act

    def forward(self, x):
        return self.b(self.act(self.a(x)))


class HardSwishMulDiv(nn.Module):
    def forward(self, x):
        return x * F.hardtanh(x + 3, 0.0, 6.0) / 6


class HardSwishDivMul(nn.Module):
    def forward(self, x):
        return x * (F.hardtanh(x + 3, 0.0, 6.0) / 6)


class HardSwishRelu6(nn.Module):
    def forward(self, x):
        return x * F.relu6(x + 3) / 6


class HardSwishRelu6DivMul(nn.Module):
    def forward(self, x):
        return x.mul(F.relu6(x.add(3)).div(6))


class HardSwishInPlace(nn.Module):
    def forward(self, x):
        return F.hardtanh_(x + 3.0, 0.0, 6.0).mul_(x).div_(6.0)


@network((2, 3, 8, 8))
def hardswish():
    acts = {
        "module": nn.Hardswish(),
        "module_in_place": nn.Hardswish(inplace=True),
        "mul_div": HardSwishMulDiv(),
        "div_mul": HardSwishDivMul(),
        "relu6": HardSwishRelu6(),
        "relu6_div_mul": HardSwishRelu6DivMul(),
        "in_place": HardSwishInPlace(),
    }
    return {name: TwoConvolutions(act) for name, act in acts.items()}


class HardSigmoidHardTanh(nn.Module):
    def forward(self, x):
        return F.hardtanh(x + 3, 0.0, 6.0) / 6


class HardSigmoidRelu6(nn.Module):
    def forward(self, x):
        return F.relu6(x + 3) / 6


class HardSigmoidInPlace(nn.Module):
    def forward(self, x):
        return F.hardtanh(x.add_(3), 0.0, 6.0, True).div_(6)


@network((2, 3, 8, 8))
def hardsigmoid():
    acts = {
        "module": nn.Hardsigmoid(),
        "module_in_place": nn.Hardsigmoid(inplace=True),
        "hardtanh": HardSigmoidHardTanh(),
        "relu6": HardSigmoidRelu6(),
        "in_place": HardSigmoidInPlace(),
    }
    return {name: TwoConvolutions(act) for name, act in acts.items()}


class SiluProduct(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x)


class SiluMethods(nn.Module):
    def forward(self, x):
        return x.sigmoid().mul_(x)


@network((2, 3, 8, 8))
def silu():
    acts = {
        "module": nn.SiLU(),
        "module_in_place": nn.SiLU(inplace=True),
        "product": SiluProduct(),
        "methods": SiluMethods(),
    }
    return {name: TwoConvolutions(act) for name, act in acts.items()}


class GeluErf(nn.Module):
    def forward(self, x):
        return x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))


class GeluErfInPlace(nn.Module):
    def forward(self, x):
        return (x * 0.5).mul_(torch.erf(x / math.sqrt(2.0)).add_(1.0))


class GeluTanh(nn.Module):
    def forward(self, x):
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


class GeluTanhOperators(nn.Module):
    def forward(self, x):
        inner = torch.tanh((x + x**3 * 0.044715) * math.sqrt(2.0 / math.pi))
        return x * 0.5 * (inner + 1.0)


@network((2, 3, 8, 8))
def gelu():
    return {"module": TwoConvolutions(nn.GELU())}


@network((2, 3, 8, 8))
def gelu_erf():
    return {"operators": TwoConvolutions(GeluErf()), "in_place": TwoConvolutions(GeluErfInPlace())}


@network((2, 3, 8, 8))
def gelu_tanh():
    return {"functions": TwoConvolutions(GeluTanh()), "operators": TwoConvolutions(GeluTanhOperators())}


class Normalize(nn.Module):
    """x / (|x| + eps) * w"""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        self.weight = nn.Parameter(torch.rand(8, 1, 1) + 0.5)

    def forward(self, x):
        x = F.relu(self.a(x))
        norm = torch.sqrt(torch.sum(torch.pow(x, 2), 1, keepdim=True)) + 1e-10
        return self.b(torch.div(x, norm) * self.weight)


class NormalizeMethods(Normalize):
    def forward(self, x):
        x = self.a(x).relu()
        norm = x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10
        return self.b(x / norm * self.weight)


class NormalizeInPlace(Normalize):
    def forward(self, x):
        x = self.a(x).relu_()
        norm = (x**2).sum(1, True).sqrt_().add_(1e-10)
        return self.b((x / norm).mul_(self.weight))


@network((2, 3, 8, 8))
def l2_norm():
    return {"functions": Normalize(), "methods": NormalizeMethods(), "in_place": NormalizeInPlace()}


class SqueezeExcitation(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x):
        x = F.relu(self.stem(x))
        s = F.adaptive_avg_pool2d(x, 1)
        s = torch.sigmoid(self.up(F.relu(self.down(s))))
        return self.last(x * s)


class SqueezeExcitationMean(SqueezeExcitation):
    def forward(self, x):
        x = self.stem(x).relu()
        s = self.down(x.mean([2, 3], keepdim=True)).relu_()
        return self.last(self.up(s).sigmoid() * x)


class SqueezeExcitationInPlace(SqueezeExcitation):
    def forward(self, x):
        x = F.relu_(self.stem(x))
        s = F.relu(self.down(torch.mean(x, (2, 3), True)), inplace=True)
        return self.last(self.up(s).sigmoid_() * x)


@network((2, 3, 8, 8))
def squeeze_excitation():
    return {
        "pool": SqueezeExcitation(),
        "mean": SqueezeExcitationMean(),
        "in_place": SqueezeExcitationInPlace(),
    }


# --- Transformers ---


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x):
        q, k, v = self.qkv(x).view(3, 5, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        p = F.softmax(torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(8.0), dim=-1)
        return self.out(torch.matmul(p, v).transpose(1, 2).reshape(3, 5, 16))


class AttentionMethods(Attention):
    def forward(self, x):
        q, k, v = self.qkv(x).view(3, 5, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        p = ((q @ k.transpose(-2, -1)) / math.sqrt(8.0)).softmax(-1)
        return self.out((p @ v).transpose(1, 2).reshape(3, 5, 16))


class AttentionBatched(Attention):
    def forward(self, x):
        q, k, v = self.qkv(x).view(3, 5, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        q, k, v = q.reshape(6, 5, 8), k.reshape(6, 5, 8), v.reshape(6, 5, 8)
        p = torch.softmax(torch.bmm(q, k.transpose(1, 2)) / math.sqrt(8.0), -1)
        return self.out(torch.bmm(p, v).view(3, 2, 5, 8).transpose(1, 2).reshape(3, 5, 16))


class AttentionAdded(Attention):
    def forward(self, x):
        q, k, v = self.qkv(x).view(3, 5, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        q, k, v = q.reshape(6, 5, 8), k.reshape(6, 5, 8), v.reshape(6, 5, 8)
        zeros = torch.zeros(6, 5, 5)
        p = F.softmax(torch.baddbmm(zeros, q, k.transpose(1, 2), beta=1.0, alpha=1 / math.sqrt(8.0)), -1)
        return self.out(torch.bmm(p, v).view(3, 2, 5, 8).transpose(1, 2).reshape(3, 5, 16))


@network((3, 5, 16))
def attention():
    return {
        "matmul": Attention(),
        "operators": AttentionMethods(),
        "bmm": AttentionBatched(),
        "baddbmm": AttentionAdded(),
    }


class RmsNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(16) + 0.5)

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


class RmsNormFunctions(RmsNorm):
    def forward(self, x):
        scale = torch.rsqrt(torch.add(torch.mean(torch.pow(x, 2), -1, True), 1e-5))
        return torch.mul(torch.mul(x, scale), self.weight)


class RmsNormInPlace(RmsNorm):
    def forward(self, x):
        return (x * (x**2).mean(-1, True).add_(1e-5).rsqrt_()).mul_(self.weight)


def rotate_half(x):
    return torch.cat((-x[..., 4:], x[..., :4]), dim=-1)


def rotate_half_chunks(x):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((torch.neg(b), a), -1)


def rotate_half_split(x):
    a, b = torch.split(x, 4, -1)
    return torch.cat([b.neg(), a], dim=-1)


class Llama(nn.Module):
    """RMSNorm, rotary embedding, attention, SwiGLU."""

    def __init__(self, norm: Optional[type] = None):
        super().__init__()
        norm = norm or RmsNorm
        self.norm1, self.norm2 = norm(), norm()
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16, bias=False) for _ in range(4))
        self.gate, self.up = nn.Linear(16, 24, bias=False), nn.Linear(16, 24, bias=False)
        self.down = nn.Linear(24, 16, bias=False)
        angle = torch.arange(5)[:, None] / 10.0 ** (torch.arange(4) / 4.0)[None]
        self.register_buffer("cos", torch.cat((angle, angle), -1).cos())
        self.register_buffer("sin", torch.cat((angle, angle), -1).sin())

    def split(self, x):
        return x.view(3, 5, 2, 8).transpose(1, 2)

    def forward(self, x):
        h = self.norm1(x)
        q, k, v = self.split(self.q(h)), self.split(self.k(h)), self.split(self.v(h))
        q = q * self.cos + rotate_half(q) * self.sin
        k = k * self.cos + rotate_half(k) * self.sin
        p = torch.softmax(torch.matmul(q, k.transpose(2, 3)) / math.sqrt(8.0), -1)
        x = x + self.o(torch.matmul(p, v).transpose(1, 2).reshape(3, 5, 16))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class LlamaInPlace(Llama):
    def forward(self, x):
        h = self.norm1(x)
        q, k, v = self.split(self.q(h)), self.split(self.k(h)), self.split(self.v(h))
        q = (q * self.cos).add_(rotate_half(q).mul_(self.sin))
        k = (k * self.cos).add_(rotate_half(k).mul_(self.sin))
        p = torch.softmax((q @ k.transpose(2, 3)).div_(math.sqrt(8.0)), -1)
        x = self.o((p @ v).transpose(1, 2).reshape(3, 5, 16)).add_(x)
        h = self.norm2(x)
        return self.down(F.silu(self.gate(h), inplace=True).mul_(self.up(h))).add_(x)


class LlamaChunks(Llama):
    """Halves come from one operator with two results, which a quantizer passes only when it stands on both."""

    def forward(self, x):
        h = self.norm1(x)
        q, k, v = self.split(self.q(h)), self.split(self.k(h)), self.split(self.v(h))
        q = torch.add(torch.mul(q, self.cos), torch.mul(rotate_half_chunks(q), self.sin))
        k = torch.add(torch.mul(k, self.cos), torch.mul(rotate_half_chunks(k), self.sin))
        p = F.softmax(torch.matmul(q, k.transpose(2, 3)) / math.sqrt(8.0), dim=-1)
        x = x + self.o(torch.matmul(p, v).transpose(1, 2).reshape(3, 5, 16))
        h = self.norm2(x)
        gate = self.gate(h)
        return x + self.down(gate * torch.sigmoid(gate) * self.up(h))


class LlamaSplits(LlamaChunks):
    def forward(self, x):
        h = self.norm1(x)
        q, k, v = self.split(self.q(h)), self.split(self.k(h)), self.split(self.v(h))
        q = q * self.cos + rotate_half_split(q) * self.sin
        k = k * self.cos + rotate_half_split(k) * self.sin
        p = (torch.matmul(q, k.transpose(2, 3)) / math.sqrt(8.0)).softmax(-1)
        x = self.o(torch.matmul(p, v).transpose(1, 2).reshape(3, 5, 16)) + x
        h = self.norm2(x)
        gate = self.gate(h)
        return self.down(torch.sigmoid(gate).mul_(gate) * self.up(h)) + x


@network((3, 5, 16))
def llama():
    return {
        "modules": Llama(),
        "functions": Llama(RmsNormFunctions),
        "in_place": LlamaInPlace(RmsNormInPlace),
    }


@network((3, 5, 16))
def llama_chunks():
    return {"chunk": LlamaChunks(), "split": LlamaSplits()}


class Holder(nn.Module):
    pass


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for name, (variants, example) in NETWORKS.items():
        holder = Holder()
        for variant, module in variants.items():
            with torch.no_grad():
                holder.add_module(f"{variant}_traced", torch.jit.trace(module, example.clone()))
            holder.add_module(f"{variant}_scripted", torch.jit.script(module))
        torch.jit.script(holder).save(str(OUT / f"{name}.pt"))


main()
