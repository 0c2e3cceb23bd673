"""WaveNet's fast sampler: one sample after the other, with each layer's earlier inputs in a ring buffer.

Source: Le Paine et al. 2016, arXiv:1611.09482, section 2 (a queue for each layer).
Differs: a layer of dilation d multiplies up to d earlier inputs in one product, and all layers' skips are one product; gates are
tanh, by sigmoid(b) = (1 + tanh(b / 2)) / 2; the features in the buffers lack the biases that layers add to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from lightning_modules.autoregressive.discrete import sample_categorical

ROWS = 64
"""Earlier inputs that one product takes, about: with more rows the weights are read less often, but the rows leave the cache."""


class DilatedLayer(Protocol):
    """A layer of WaveNet with R residual features and S skip features."""

    dilation: int
    filter_gate: nn.Linear
    """[earlier input, own input] [2 R] -> filter and gate [2 R]."""
    condition: nn.Linear | None
    """Condition -> what is added to filter and gate, [2 R]."""
    leave: nn.Linear
    """Gated features [R] -> residual and skip [R + S]."""


class LayerCache:
    """One layer's latest inputs, and the sums that earlier inputs contribute to the next `ahead` samples.

    Args:
        layer: of which this is the cache.
        n: waves.
        cond: conditions [n, T or 1, C]; None: there are none.
        missing: [R], biases of the layers below, which the features in the buffer lack.
        out: [n, R], the buffer for twice the gated features.
    """

    def __init__(self, layer: DilatedLayer, n: int, cond: Tensor | None, missing: Tensor, out: Tensor) -> None:
        size, self.dilation, self.out = layer.leave.in_features, layer.dilation, out
        half = torch.ones(2 * size).to(missing)
        half[size:] = 0.5
        self.early, self.own = (layer.filter_gate.weight.T * half).contiguous().chunk(2)
        self.bias = layer.filter_gate.bias * half + missing @ (self.early + self.own)
        if cond is not None:
            assert layer.condition is not None
            self.bias = self.bias + (layer.condition(cond) * half).transpose(0, 1)  # [T or 1, n, 2R]
        self.leave = (layer.leave.weight[:size].T / 2).contiguous()
        rows = max(1, ROWS // max(1, n))
        self.ahead = min(self.dilation, 1 << rows.bit_length() - 1)  # divides the dilation: both are powers of 2
        past = (-missing).expand(self.dilation + self.ahead, n, size).contiguous()  # silence
        self.slots, self.blocks = past.unbind(), past.unflatten(0, (-1, self.ahead)).flatten(1, 2).unbind()
        self.sums = missing.new_empty(self.ahead, n, 2 * size)
        self.flat = self.sums.view(self.ahead * n, 2 * size)
        self.parts = [(sums, *sums.chunk(2, 1)) for sums in self.sums.unbind()]

    def precompute(self, t: int) -> None:
        """Compute the contributions of earlier inputs to samples t, t + 1, ... t + ahead - 1."""
        block = self.blocks[(t - self.dilation) // self.ahead % len(self.blocks)]
        if self.bias.dim() == 1:
            torch.addmm(self.bias, block, self.early, out=self.flat)
            return
        torch.mm(block, self.early, out=self.flat)
        bias = self.bias[t : t + self.ahead] if len(self.bias) > 1 else self.bias.expand(self.ahead, -1, -1)
        self.sums[: len(bias)].add_(bias)

    def step(self, t: int, following: Sequence[Tensor]) -> None:
        """Pass the input of sample t, which is in its slot, through this layer into the slot of the next layer.

        Args:
            t: sample.
            following: slots of the next layer; empty after the last.
        """
        k = t % self.ahead
        if k == 0:
            self.precompute(t)
        x = self.slots[t % len(self.slots)]
        sums, content, gate = self.parts[k]
        sums.addmm_(x, self.own).tanh_()
        torch.addcmul(content, content, gate, out=self.out)
        if following:
            torch.addmm(x, self.out, self.leave, out=following[t % len(following)])


def build_cache(layers: Sequence[DilatedLayer], n: int, cond: Tensor | None, outs: Tensor) -> list[LayerCache]:
    """A cache for each layer, before the first sample.

    Args:
        layers: from the input on.
        n: waves.
        cond: conditions [n, T or 1, C]; None: there are none.
        outs: [n, layers R], the buffer for twice the gated features of all layers.
    """
    size = layers[0].leave.in_features
    missing, caches = outs.new_zeros(size), []
    for layer, out in zip(layers, outs.split(size, 1), strict=True):
        caches.append(LayerCache(layer, n, cond, missing, out))
        missing = missing + layer.leave.bias[:size]
    return caches


def generate(
    layers: Sequence[DilatedLayer],
    tables: tuple[Tensor, Tensor],
    head: tuple[nn.Linear, nn.Linear],
    uniform: Tensor,
    cond: Tensor | None,
) -> Tensor:
    """Levels [n, T], drawn by uniform values [n, T] in [0, 1).

    Args:
        layers: from the input on.
        tables: features [levels + 1, R] of the sample before, and of the one before that; the last row is silence.
        head: sum of skips [n, S] -> [n, S] -> logits [n, levels], with a ReLU before each.
        uniform: values that draw the levels by inversion.
        cond: conditions [n, T or 1, C]; None: there are none.
    """
    n, length = uniform.shape
    size = layers[0].leave.in_features
    outs = uniform.new_empty(n, len(layers) * size)
    caches = build_cache(layers, n, cond, outs)
    slots = [cache.slots for cache in caches]
    steps = [(cache.step, following) for cache, following in zip(caches, [*slots[1:], ()], strict=True)]
    skip = torch.cat([layer.leave.weight[size:].T / 2 for layer in layers])
    skip_bias = torch.stack([layer.leave.bias[size:] for layer in layers]).sum(0)
    now, before = tables
    weights = [layer.weight.T.contiguous() for layer in head]
    last = earlier = torch.full((n,), len(now) - 1, device=uniform.device)
    found = torch.empty(length, n, dtype=torch.long, device=uniform.device)
    for t, here in enumerate(uniform.T.contiguous().unbind()):
        x = slots[0][t % len(slots[0])]
        torch.add(now.index_select(0, last), before.index_select(0, earlier), out=x)
        for step, following in steps:
            step(t, following)
        h = torch.addmm(skip_bias, outs, skip).relu_()
        h = torch.addmm(head[0].bias, h, weights[0]).relu_()
        earlier, last = last, sample_categorical(torch.addmm(head[1].bias, h, weights[1]), here)
        found[t] = last
    return found.T
