"""Bijections of images [B, C, H, W]."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.flows.bijection import Bijection, Mapped, rows
from lightning_modules.flows.coupling import affine


def halvable(shape: Sequence[int], scales: int, times: int) -> None:
    """Refuse images of which so many scales would halve odd sides.

    Raises:
        ValueError: 2^times does not divide both sides.
    """
    if any(side % 2**times for side in shape[1:]):
        raise ValueError(f"Images of shape {shape} cannot have {scales} scales: {2**times} must divide both sides.")


class Squeeze(Bijection):
    """Each 2x2 block of pixels becomes one pixel of four times as many channels.

    Source: Dinh et al. 2017, arXiv:1605.08803, section 3.6.
    """

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        return Mapped(F.pixel_unshuffle(x, 2), x.new_zeros(len(x)))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        return Mapped(F.pixel_shuffle(z, 2), z.new_zeros(len(z)))


class MultiScale(Bijection):
    """[B, C, H, W] -> [B, C H W]: after each level half of the channels leave, standardised by what the other half says.

    Args:
        levels: what happens between two departures, nearest to the data first; each may change the shape.
        tell: for each level but the last, a network (staying [B, C', H', W']) -> log scale and shift [B, 2 C', H', W'] of those
            that leave; None leaves them as they are.
        shapes: what each level puts out.

    Source: RealNVP, eq. 14 to 16; with `tell` Glow's learned prior of what leaves (arXiv:1807.03039, published code).
    """

    def __init__(
        self, levels: Sequence[Bijection], shapes: Sequence[Sequence[int]], tell: Sequence[nn.Module] | None = None
    ) -> None:
        super().__init__()
        self.levels, self.shapes = nn.ModuleList(levels), [tuple(s) for s in shapes]
        self.tell = nn.ModuleList(tell) if tell else None

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        total, gone = x.new_zeros(len(x)), []
        for i, level in enumerate(self.levels):
            x, logdet = level(x, cond)
            total = total + logdet
            if i + 1 < len(self.levels):
                x, leaving = x.chunk(2, 1)
                scale, shift = self.told(i, x)
                gone.append((leaving * scale.exp() + shift).flatten(1))
                total = total + rows(scale)
        return Mapped(torch.cat([*gone, x.flatten(1)], 1), total)

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        sizes = [math.prod(s) // 2 for s in self.shapes[:-1]] + [math.prod(self.shapes[-1])]
        *gone, x = z.split(sizes, 1)
        x, total = x.unflatten(1, self.shapes[-1]), z.new_zeros(len(z))
        for i in reversed(range(len(self.levels))):
            if i + 1 < len(self.levels):
                scale, shift = self.told(i, x)
                leaving = (gone[i].view_as(x) - shift) * (-scale).exp()
                x, total = torch.cat([x, leaving], 1), total - rows(scale)
            x, logdet = self.levels[i].inverse(x, cond)
            total = total + logdet
        return Mapped(x, total)

    def told(self, i: int, staying: Tensor) -> tuple[Tensor, Tensor]:
        if self.tell is None:
            return torch.zeros_like(staying), torch.zeros_like(staying)
        return affine(self.tell[i](staying))


class Flatten(Bijection):
    """[B, *shape] -> [B, D]."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        return Mapped(x.flatten(1), x.new_zeros(len(x)))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        return Mapped(z.unflatten(1, self.shape), z.new_zeros(len(z)))
