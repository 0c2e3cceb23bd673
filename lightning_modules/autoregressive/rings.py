"""WaveNet's samples one after the other, each layer's past in a ring.

Source: Le Paine et al. 2016, arXiv:1611.09482, section 2 (a queue for each layer).
Differs: a layer of dilation d meets its earlier samples d at a time in one product; gates are tanh, by sigmoid(b) = (1 + tanh(b / 2)) / 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .discrete import pick

if TYPE_CHECKING:
    from .wavenet import Layer, WaveNet


class Ring:
    """One layer's last `dilation` inputs, and what they will say to the samples that many later.

    Args:
        told: what conditions, [n, T or 1, told].
        total: [n, R + S], the features and the sum of skips, to which every layer adds.
    """

    def __init__(self, layer: Layer, n: int, told: Tensor | None, total: Tensor) -> None:
        size, d = layer.leave.in_features, layer.dilation
        half = torch.ones(2 * size, 1).to(total)
        half[size:] = 0.5
        weight = (layer.meet.weight * half).T
        self.early, self.own = weight[:size].contiguous(), weight[size:].contiguous()
        self.leave = torch.cat([layer.leave.weight.T / 2, layer.leave.bias[None]]).contiguous()
        bias = layer.meet.bias * half[:, 0]
        if told is not None:
            assert layer.told is not None
            bias = bias + (layer.told(told) * half[:, 0]).transpose(0, 1)  # [T or 1, n, 2R]
        self.bias = bias.expand(-1, n, -1) if told is not None else bias.expand(1, n, -1)
        self.dilation, self.total, self.x = d, total, total[:, :size]
        self.past = total.new_zeros(d, n, size)
        self.ahead = total.new_zeros(d, n, 2 * size)
        self.flat, self.flat_ahead = self.past.view(d * n, size), self.ahead.view(d * n, 2 * size)
        self.slots, self.sums = list(self.past.unbind()), list(self.ahead.unbind())
        self.open = total.new_ones(n, size + 1)  # the last column is for the bias
        self.out = self.open[:, :size]
        self.gates = total.new_empty(n, 2 * size)
        self.content, self.gate = self.gates[:, :size], self.gates[:, size:]

    def step(self, t: int) -> None:
        """Let sample t pass through this layer."""
        k = t % self.dilation
        if k == 0:
            torch.mm(self.flat, self.early, out=self.flat_ahead)
            if len(self.bias) == 1:
                self.ahead.add_(self.bias)
            else:
                due = self.bias[t : t + self.dilation]
                self.ahead[: len(due)].add_(due)
        self.slots[k].copy_(self.x)
        torch.addmm(self.sums[k], self.x, self.own, out=self.gates).tanh_()
        torch.addcmul(self.content, self.content, self.gate, out=self.out)
        self.total.addmm_(self.open, self.leave)


def generate(net: WaveNet, even: Tensor, told: Tensor | None) -> Tensor:
    """Levels [n, T], picked by uniform numbers `even` [n, T]; what conditions them is `told` [n, T or 1, *]."""
    n, length = even.shape
    total = even.new_zeros(n, net.residual + net.head.in_features)
    x, skips = total[:, : net.residual], total[:, net.residual :]
    rings = [Ring(layer, n, told, total) for layer in net.layers]  # type: ignore[arg-type]
    steps = [ring.step for ring in rings]
    now, before = net.now.weight, net.before.weight
    head, leave = net.head.weight.T.contiguous(), net.leave.weight.T.contiguous()
    last = earlier = torch.full((n,), net.levels, device=even.device)
    found = torch.empty(length, n, dtype=torch.long, device=even.device)
    for t, here in enumerate(even.T.contiguous().unbind()):
        torch.add(now[last], before[earlier], out=x)
        skips.zero_()
        for step in steps:
            step(t)
        h = torch.addmm(net.head.bias, skips.relu(), head).relu_()
        earlier, last = last, pick(torch.addmm(net.leave.bias, h, leave), here)
        found[t] = last
    return found.T
