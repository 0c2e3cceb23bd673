"""A residual multilayer perceptron for examples that are not images."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lightning_modules.conditions import UNCONDITIONAL, Cond
from lightning_modules.nets.embed import Conditioning, value_of, with_null


class Block(nn.Module):
    """Pre-normalised residual block [B, width], scaled and shifted by a vector [B, width]; the identity at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.condition = nn.Linear(width, 2 * width)
        self.enter, self.leave = nn.Linear(width, 2 * width), zero(nn.Linear(2 * width, width))
        self.act = nn.SiLU()

    def forward(self, h: Tensor, vector: Tensor) -> Tensor:
        scale, shift = self.condition(vector).chunk(2, 1)
        return h + self.leave(self.act(self.enter(self.norm(h) * (1 + scale) + shift)))


class ResidualMLP(nn.Module):
    """A network of a denoiser: (x [B, C, ...], level [B], conditions) -> [B, outputs C, ...]; zero at first.

    Args:
        shape: (C, ...) of one example; it is flattened inside.
        width: of the hidden layers.
        depth: residual blocks.
        classes: number of labels, 0 for none.
        outputs: how often the output has the channels of an example: 2 for a learned variance.
        numbers: count of `Cond.numbers`, embedded as the level is; 0 for none.
        image: shape (C, h, w) of `Cond.image`, joined to x; () for none.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        width: int = 128,
        depth: int = 3,
        classes: int = 0,
        outputs: int = 1,
        numbers: int = 0,
        image: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        size = math.prod(shape)
        self.shape = (outputs * shape[0], *shape[1:])
        self.condition = Conditioning(width, classes, numbers=numbers, elsewhere=("image",) if image else ())
        self.act = nn.SiLU()
        self.null = nn.Parameter(torch.zeros(image)) if image else None
        self.enter = nn.Linear(size + (math.prod(image) if image else 0), width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.leave = zero(nn.Linear(width, outputs * size))

    def forward(self, x: Tensor, level: Tensor, cond: Cond = UNCONDITIONAL) -> Tensor:
        """The output [B, outputs C, ...].

        Args:
            level: what the network is given about the noise level; its embedding suits log sigma.
            cond: labels, for a network with classes; numbers or an image, for one that takes them.
        """
        vector = self.act(self.condition(level, cond))
        h = x.flatten(1)
        if self.null is not None:
            image = value_of(cond, "image", len(self.null), self.null)
            joined = with_null(image, self.null, cond.hidden.get("image"), len(x))
            h = torch.cat([h, joined.flatten(1).to(h)], 1)
        h = self.enter(h)
        for block in self.blocks:
            h = block(h, vector)
        return self.leave(h).reshape(len(x), *self.shape)


def zero(layer: nn.Module) -> nn.Module:
    """The same layer, after its weights are set to zero."""
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer
