"""WaveNet's samples one after the other, each layer's past in a ring.

Source: Le Paine et al. 2016, arXiv:1611.09482, section 2 (a queue for each layer).
Differs: a layer of dilation d meets its earlier samples d at a time in one product, and all layers' skips are one product; gates are
tanh, by sigmoid(b) = (1 + tanh(b / 2)) / 2; the features in the rings lack the biases that layers add to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lightning_modules.autoregressive.discrete import pick

if TYPE_CHECKING:
    from lightning_modules.autoregressive.wavenet import Layer, WaveNet


ROWS = 64
"""Of earlier samples that one product takes, about: many rows share the reading of weights, few stay near."""


class Ring:
    """One layer's last inputs, and what they say to the next `ahead` samples.

    Args:
        told: what conditions, [n, T or 1, told].
        lack: [R], what has to be added to the ring's features.
        out: [n, R], where twice the gated features go.
    """

    def __init__(self, layer: Layer, n: int, told: Tensor | None, lack: Tensor, out: Tensor) -> None:
        size, self.dilation, self.out = layer.leave.in_features, layer.dilation, out
        half = torch.ones(2 * size).to(lack)
        half[size:] = 0.5
        self.early, self.own = (layer.meet.weight.T * half).contiguous().chunk(2)
        self.bias = layer.meet.bias * half + lack @ (self.early + self.own)
        if told is not None:
            assert layer.told is not None
            self.bias = self.bias + (layer.told(told) * half).transpose(0, 1)  # [T or 1, n, 2R]
        self.leave = (layer.leave.weight[:size].T / 2).contiguous()
        rows = max(1, ROWS // max(1, n))
        self.ahead = min(self.dilation, 1 << rows.bit_length() - 1)  # divides the dilation: both are powers of 2
        past = (-lack).expand(self.dilation + self.ahead, n, size).contiguous()  # silence
        self.slots, self.blocks = past.unbind(), past.unflatten(0, (-1, self.ahead)).flatten(1, 2).unbind()
        self.sums = lack.new_empty(self.ahead, n, 2 * size)
        self.flat = self.sums.view(self.ahead * n, 2 * size)
        self.parts = [(one, *one.chunk(2, 1)) for one in self.sums.unbind()]

    def foresee(self, t: int) -> None:
        """Compute what earlier inputs say to samples t, t + 1, ... t + ahead - 1."""
        block = self.blocks[(t - self.dilation) // self.ahead % len(self.blocks)]
        if self.bias.dim() == 1:
            torch.addmm(self.bias, block, self.early, out=self.flat)
            return
        torch.mm(block, self.early, out=self.flat)
        due = self.bias[t : t + self.ahead] if len(self.bias) > 1 else self.bias.expand(self.ahead, -1, -1)
        self.sums[: len(due)].add_(due)

    def step(self, t: int, following: Sequence[Tensor]) -> None:
        """Let sample t, which is in its slot, pass through this layer, and into its slot of the `following` ones."""
        k = t % self.ahead
        if k == 0:
            self.foresee(t)
        x = self.slots[t % len(self.slots)]
        sums, content, gate = self.parts[k]
        sums.addmm_(x, self.own).tanh_()
        torch.addcmul(content, content, gate, out=self.out)
        if following:
            torch.addmm(x, self.out, self.leave, out=following[t % len(following)])


def wind(net: WaveNet, n: int, told: Tensor | None, outs: Tensor) -> list[Ring]:
    """A ring for each layer, whose gated features go to `outs` [n, layers R]."""
    size = net.residual
    lack, rings = outs.new_zeros(size), []
    for layer, out in zip(net.layers, outs.split(size, 1), strict=True):
        rings.append(Ring(layer, n, told, lack, out))  # type: ignore[arg-type]
        lack = lack + layer.leave.bias[:size]  # type: ignore[index, union-attr]
    return rings


def generate(net: WaveNet, even: Tensor, told: Tensor | None) -> Tensor:
    """Levels [n, T], picked by uniform numbers `even` [n, T]; what conditions them is `told` [n, T or 1, *]."""
    n, length = even.shape
    outs = even.new_empty(n, len(net.layers) * net.residual)
    rings = wind(net, n, told, outs)
    slots = [ring.slots for ring in rings]
    steps = [(ring.step, after) for ring, after in zip(rings, [*slots[1:], ()], strict=True)]
    leaves: list[nn.Linear] = [layer.leave for layer in net.layers]  # type: ignore[misc]
    skip = torch.cat([leave.weight[net.residual :].T / 2 for leave in leaves])
    skip_bias = torch.stack([leave.bias[net.residual :] for leave in leaves]).sum(0)
    now, before = net.now.weight, net.before.weight
    head, leave = net.head.weight.T.contiguous(), net.leave.weight.T.contiguous()
    last = earlier = torch.full((n,), net.levels, device=even.device)
    found = torch.empty(length, n, dtype=torch.long, device=even.device)
    for t, here in enumerate(even.T.contiguous().unbind()):
        x = slots[0][t % len(slots[0])]
        torch.add(now.index_select(0, last), before.index_select(0, earlier), out=x)
        for step, following in steps:
            step(t, following)
        h = torch.addmm(skip_bias, outs, skip).relu_()
        h = torch.addmm(net.head.bias, h, head).relu_()
        earlier, last = last, pick(torch.addmm(net.leave.bias, h, leave), here)
        found[t] = last
    return found.T
