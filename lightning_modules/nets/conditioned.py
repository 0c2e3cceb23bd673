"""Networks of coupling layers: (x, condition [B, C] or None) -> parameters; zero at first, so that the layer is the identity."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from lightning_modules.nets.mlp import zero


class Steer(nn.Module):
    """Adds what a condition [B, C] says to units [B, width, *]; nothing where there is none."""

    def __init__(self, cond: int, width: int) -> None:
        super().__init__()
        self.say = nn.Linear(cond, width, bias=False) if cond else None

    def forward(self, h: Tensor, cond: Tensor | None) -> Tensor:
        if self.say is None or cond is None:
            return h
        told = self.say(cond)
        return h + told.view(*told.shape, *[1] * (h.dim() - 2))


class Plain(nn.Module):
    """A multilayer perceptron of x [B, D] -> [B, outputs].

    Args:
        inputs: D.
        outputs: of the last layer.
        width, depth: units and number of hidden layers.
        cond: numbers of the condition.
    """

    def __init__(self, inputs: int, outputs: int, *, width: int, depth: int = 2, cond: int = 0) -> None:
        super().__init__()
        sizes = [inputs, *[width] * depth]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.leave = zero(nn.Linear(sizes[-1], outputs))
        self.steer = Steer(cond, width)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        for i, layer in enumerate(self.hidden):
            x = layer(x)
            x = (x if i else self.steer(x, cond)).relu_()
        return self.leave(x)


class Pixels(nn.Module):
    """Three convolutions, the middle one 1x1, of x [B, C, H, W] -> [B, outputs, H, W].

    Source: Kingma & Dhariwal 2018, arXiv:1807.03039, section 3.3; the gain of the last layer: its published code.
    Differs: no ActNorm between the convolutions.
    """

    def __init__(self, inputs: int, outputs: int, *, width: int, cond: int = 0) -> None:
        super().__init__()
        self.enter, self.middle = nn.Conv2d(inputs, width, 3, padding=1), nn.Conv2d(width, width, 1)
        self.leave = zero(nn.Conv2d(width, outputs, 3, padding=1))
        self.steer = Steer(cond, width)
        self.to(memory_format=torch.channels_last)  # much quicker on CPUs, and what comes out stays so

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        h = self.steer(self.enter(x), cond)
        return self.leave(self.middle(h.relu_()).relu_())


class Residual(nn.Module):
    """Residual blocks of two weight-normalised 3x3 convolutions, of x [B, C, H, W] -> [B, outputs, H, W].

    Source: Dinh et al. 2017, arXiv:1605.08803, section 3.7, "Deep residual networks".
    Differs: no batch norm inside.
    """

    def __init__(self, inputs: int, outputs: int, *, width: int, blocks: int, cond: int = 0) -> None:
        super().__init__()
        self.enter = nn.Conv2d(inputs, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleList(weight_norm(nn.Conv2d(width, width, 3, padding=1)) for _ in range(2)) for _ in range(blocks)
        )
        self.leave = zero(nn.Conv2d(width, outputs, 1))
        self.steer = Steer(cond, width)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        h = self.steer(self.enter(x), cond)
        for first, second in self.blocks:
            h = h + second(F.relu(first(F.relu(h))))
        return self.leave(F.relu(h))
