"""Networks of coupling layers: (x, condition [B, C] or None) -> parameters; zero at first, so that the layer is the identity."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from lightning_modules.nets.mlp import zero


class ConditionBias(nn.Module):
    """A bias of units [B, width, *] that is linear in a condition [B, cond]; none where there is no condition.

    Args:
        cond: C, 0 for none.
        width: units.
    """

    def __init__(self, cond: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(cond, width, bias=False) if cond else None

    def forward(self, h: Tensor, cond: Tensor | None) -> Tensor:
        if self.linear is None or cond is None:
            return h
        bias = self.linear(cond)
        return h + bias.view(*bias.shape, *[1] * (h.dim() - 2))


class MLP(nn.Module):
    """A multilayer perceptron of x [B, D] -> [B, outputs], with ReLUs.

    Args:
        inputs: D.
        outputs: of the last layer.
        width, depth: units and number of hidden layers.
        cond: features of the condition, added in the first layer; 0 for none.
    """

    def __init__(self, inputs: int, outputs: int, *, width: int, depth: int = 2, cond: int = 0) -> None:
        super().__init__()
        sizes = [inputs, *[width] * depth]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.leave = zero(nn.Linear(sizes[-1], outputs))
        self.condition_bias = ConditionBias(cond, width)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        for i, layer in enumerate(self.hidden):
            x = layer(x)
            x = (x if i else self.condition_bias(x, cond)).relu_()
        return self.leave(x)


class ConvNet(nn.Module):
    """Three convolutions, the middle one 1x1, of x [B, inputs, H, W] -> [B, outputs, H, W].

    Args:
        width: channels between them.
        cond: features of the condition, added after the first convolution; 0 for none.

    Source: Kingma & Dhariwal 2018, arXiv:1807.03039, section 3.3.
    Differs: no ActNorm between the convolutions.
    """

    def __init__(self, inputs: int, outputs: int, *, width: int, cond: int = 0) -> None:
        super().__init__()
        self.enter, self.middle = nn.Conv2d(inputs, width, 3, padding=1), nn.Conv2d(width, width, 1)
        self.leave = zero(nn.Conv2d(width, outputs, 3, padding=1))
        self.condition_bias = ConditionBias(cond, width)
        self.to(memory_format=torch.channels_last)  # faster on CPUs, and the outputs keep this format

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        h = self.condition_bias(self.enter(x), cond)
        return self.leave(self.middle(h.relu_()).relu_())


class Residual(nn.Module):
    """Residual blocks of two weight-normalised 3x3 convolutions, of x [B, inputs, H, W] -> [B, outputs, H, W].

    Args:
        width: channels of the blocks.
        blocks: how many.
        cond: features of the condition, added before the first block; 0 for none.

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
        self.condition_bias = ConditionBias(cond, width)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        h = self.condition_bias(self.enter(x), cond)
        for first, second in self.blocks:
            h = h + second(F.relu(first(F.relu(h))))
        return self.leave(F.relu(h))
