"""Coupling layers: one part of an example stays as it is, and determines how the other part is scaled and shifted.

Source: Dinh et al. 2015, arXiv:1410.8516, section 3.2; Dinh et al. 2017, arXiv:1605.08803, eq. 4 to 9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.flows.bijection import Bijection, Mapped, sum_features

ScaleAndShift = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Outputs of a network, parameters along dimension 1 -> (log scale, shift) of the part that changes."""


def additive(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Log scale 0, and the shift: one output for each entry that changes."""
    return torch.zeros_like(raw), raw


def affine(raw: Tensor, bound: float = 3.0) -> tuple[Tensor, Tensor]:
    """Log scale within +-bound, and shift: two outputs for each entry that changes.

    Source: RealNVP, section 3.3: a tanh bounds the scale.
    """
    log_scale, shift = raw.chunk(2, 1)
    return bound * torch.tanh(log_scale / bound), shift


def sigmoid_affine(raw: Tensor) -> tuple[Tensor, Tensor]:
    """As `affine`, with a scale between exp(-10) and 1, of 0.88 at first.

    Source: the published code of Kingma & Dhariwal 2018, arXiv:1807.03039.
    Differs: the scale is bounded below; without, the inverse of a far point overflows.
    """
    log_scale, shift = raw.chunk(2, 1)
    return F.logsigmoid(log_scale + 2).clamp(min=-10), shift


class Split(Protocol):
    """A way to split an example into a part that stays and a part that changes."""

    def take(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The part that stays, the part that changes, and the mask of the entries of the latter that exist; None: all."""
        ...

    def join(self, fixed: Tensor, changed: Tensor) -> Tensor:
        """The example of the two parts."""
        ...


class Halves(nn.Module):
    """The first and the second half of dimension 1; with `flip` the first half changes. The halves of `size` may differ by one.

    Raises:
        ValueError: `size` is below 2.
    """

    def __init__(self, size: int, *, flip: bool = False) -> None:
        super().__init__()
        if size < 2:
            raise ValueError(
                f"Coupling changes one part of an example given the other, and size {size} cannot be split: it takes two at least."
            )
        self.sizes, self.flip = [size - size // 2, size // 2], flip

    def take(self, x: Tensor) -> tuple[Tensor, Tensor, None]:
        first, second = x.split(self.sizes, 1)
        return (second, first, None) if self.flip else (first, second, None)

    def join(self, fixed: Tensor, changed: Tensor) -> Tensor:
        return torch.cat([changed, fixed] if self.flip else [fixed, changed], 1)


class Checkerboard(nn.Module):
    """The black and the white pixels of an image of height and width `sides`; both parts are whole images, 0 at the others' pixels."""

    mask: Tensor

    def __init__(self, sides: Sequence[int], *, flip: bool = False) -> None:
        super().__init__()
        row, column = torch.meshgrid(*map(torch.arange, sides), indexing="ij")
        self.register_buffer("mask", ((row + column) % 2 == (0 if flip else 1)).float(), persistent=False)

    def take(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x * (1 - self.mask), x * self.mask, self.mask

    def join(self, fixed: Tensor, changed: Tensor) -> Tensor:
        return fixed + changed


class Coupling(Bijection):
    """The changing part x_b becomes x_b exp(s) + t, where s and t are functions of the part x_a that stays.

    Args:
        split: which part changes.
        net: (x_a [B, *A], cond) -> what `scale_and_shift` reads, shaped as x_b but in dimension 1.
        scale_and_shift: `additive`, `affine` or `sigmoid_affine`.
    """

    def __init__(self, split: Split, net: nn.Module, scale_and_shift: ScaleAndShift = affine) -> None:
        super().__init__()
        self.split, self.net, self.scale_and_shift = split, net, scale_and_shift

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        fixed, changing, mask = self.split.take(x)
        log_scale, shift = self.params(fixed, mask, cond)
        return Mapped(self.split.join(fixed, changing * log_scale.exp() + shift), sum_features(log_scale))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        fixed, changed, mask = self.split.take(z)
        log_scale, shift = self.params(fixed, mask, cond)
        return Mapped(self.split.join(fixed, (changed - shift) * (-log_scale).exp()), -sum_features(log_scale))

    def params(self, fixed: Tensor, mask: Tensor | None, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """Log scale and shift of the changing part, 0 outside the mask."""
        log_scale, shift = self.scale_and_shift(self.net(fixed, cond))
        return (log_scale, shift) if mask is None else (log_scale * mask, shift * mask)


def alternating(
    size: int, count: int, net: Callable[[int, int], nn.Module], scale_and_shift: ScaleAndShift = affine
) -> list[Coupling]:
    """Couplings of vectors [B, size] whose halves change in turn, the second half first.

    Args:
        size: D.
        count: couplings.
        net: (A, B) -> a network (fixed [B, A], cond) -> what `scale_and_shift` reads for the B entries that change.
        scale_and_shift: as in `Coupling`.
    """
    splits = [Halves(size, flip=i % 2 == 1) for i in range(count)]
    return [Coupling(s, net(*(s.sizes[::-1] if s.flip else s.sizes)), scale_and_shift) for s in splits]
