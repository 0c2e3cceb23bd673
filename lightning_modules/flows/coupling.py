"""Coupling: one part of an example, left as it is, tells how the other is shifted and scaled.

Source: Dinh et al. 2015, arXiv:1410.8516, section 3.2; Dinh et al. 2017, arXiv:1605.08803, eq. 4 to 9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.flows.bijection import Bijection, Mapped, rows

Gains = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From a network's output, parameters along dimension 1, to (log scale, shift) of the part that moves."""


def additive(raw: Tensor) -> tuple[Tensor, Tensor]:
    """A shift alone: the network puts out one number for each that moves."""
    return torch.zeros_like(raw), raw


def affine(raw: Tensor, bound: float = 3.0) -> tuple[Tensor, Tensor]:
    """Log scale within +-bound, and shift: two numbers for each that moves.

    Source: RealNVP, section 3.3: a tanh keeps the scale within bounds.
    """
    scale, shift = raw.chunk(2, 1)
    return bound * torch.tanh(scale / bound), shift


def sigmoid_affine(raw: Tensor) -> tuple[Tensor, Tensor]:
    """As `affine`, with a scale between exp(-10) and 1, of 0.88 at first.

    Source: the published code of Kingma & Dhariwal 2018, arXiv:1807.03039.
    Differs: the scale has a floor, without which the inverse of a far point overflows.
    """
    scale, shift = raw.chunk(2, 1)
    return F.logsigmoid(scale + 2).clamp(min=-10), shift


class Parts(Protocol):
    """A way to take an example apart: into what is known, what moves, and which of the latter's places count."""

    def take(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]: ...
    def join(self, known: Tensor, moved: Tensor) -> Tensor: ...


class Halves(nn.Module):
    """The first and the second half of dimension 1; `flip` moves the first. The halves of `size` may differ by one.

    Raises:
        ValueError: there is nothing to halve.
    """

    def __init__(self, size: int, *, flip: bool = False) -> None:
        super().__init__()
        if size < 2:
            raise ValueError(
                f"Coupling moves some numbers by others, and examples of {size} cannot be split: it takes two at least."
            )
        self.sizes, self.flip = [size - size // 2, size // 2], flip

    def take(self, x: Tensor) -> tuple[Tensor, Tensor, None]:
        first, second = x.split(self.sizes, 1)
        return (second, first, None) if self.flip else (first, second, None)

    def join(self, known: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([moved, known] if self.flip else [known, moved], 1)


class Checkerboard(nn.Module):
    """The black and the white pixels of an image of height and width `sides`; both parts are whole images with holes of 0."""

    def __init__(self, sides: Sequence[int], *, flip: bool = False) -> None:
        super().__init__()
        row, column = torch.meshgrid(*map(torch.arange, sides), indexing="ij")
        self.register_buffer("moves", ((row + column) % 2 == (0 if flip else 1)).float(), persistent=False)

    def take(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x * (1 - self.moves), x * self.moves, self.moves

    def join(self, known: Tensor, moved: Tensor) -> Tensor:
        return known + moved


class Coupling(Bijection):
    """What moves becomes itself times exp(s) plus t, with s and t by `net` from what is known.

    Args:
        parts: which part moves.
        net: (known [B, *K], cond) -> what `gains` reads, shaped as what moves but in dimension 1.
        gains: `additive`, `affine` or `sigmoid_affine`.
    """

    def __init__(self, parts: Parts, net: nn.Module, gains: Gains = affine) -> None:
        super().__init__()
        self.parts, self.net, self.gains = parts, net, gains

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        known, moving, counts = self.parts.take(x)
        scale, shift = self.told(known, counts, cond)
        return Mapped(self.parts.join(known, moving * scale.exp() + shift), rows(scale))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        known, moved, counts = self.parts.take(z)
        scale, shift = self.told(known, counts, cond)
        return Mapped(self.parts.join(known, (moved - shift) * (-scale).exp()), -rows(scale))

    def told(self, known: Tensor, counts: Tensor | None, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        scale, shift = self.gains(self.net(known, cond))
        return (scale, shift) if counts is None else (scale * counts, shift * counts)


class Turns(Bijection):
    """Couplings of vectors [B, D] whose halves take turns: what moved tells the next how to move.

    The same as a chain of `Coupling` by halves that flip, but the halves are put together at the end alone.

    Args:
        size: D.
        count: couplings.
        net: (K, M) -> a network (known [B, K], cond) -> what `gains` reads for the M numbers that move.
        gains: `additive`, `affine` or `sigmoid_affine`.
    """

    def __init__(self, size: int, count: int, net: Callable[[int, int], nn.Module], gains: Gains = affine) -> None:
        super().__init__()
        self.halves, self.gains, self.swapped = Halves(size), gains, count % 2 == 1
        sizes = [self.halves.sizes, self.halves.sizes[::-1]]
        self.nets = nn.ModuleList(net(*sizes[i % 2]) for i in range(count))

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        known, moving, _ = self.halves.take(x)
        scales = []
        for net in self.nets:
            scale, shift = self.gains(net(known, cond))
            known, moving = torch.addcmul(shift, moving, scale.exp()), known
            scales.append(scale)
        both = (moving, known) if self.swapped else (known, moving)
        return Mapped(self.halves.join(*both), torch.cat(scales, 1).sum(1))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        moved, known, _ = self.halves.take(z)
        if self.swapped:
            moved, known = known, moved
        scales = []
        for net in reversed(self.nets):
            scale, shift = self.gains(net(known, cond))
            moved, known = known, (moved - shift) * (-scale).exp()
            scales.append(scale)
        return Mapped(self.halves.join(moved, known), -torch.cat(scales, 1).sum(1))
