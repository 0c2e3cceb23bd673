"""Bijections of images [B, C, H, W]."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.flows.bijection import Bijection, Mapped, sum_features
from lightning_modules.flows.coupling import affine


def check_halvable(shape: Sequence[int], scales: int, times: int) -> None:
    """Raise ValueError unless the sides of images [C, H, W] can be halved `times` times, as so many scales need.

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
    """[B, C, H, W] -> [B, C H W]: after each scale half of the channels are factored out, standardised given the other half.

    Args:
        scales: the bijections between two splits, nearest to the data first; each may change the shape.
        shapes: (C, H, W) after each scale.
        priors: for each scale but the last, a network (kept half [B, C', H', W']) -> log scale and shift [B, 2 C', H', W'] of the
            half that is factored out; None: that half stays as it is.

    Source: RealNVP, eq. 14 to 16; with `priors`, Glow's learned prior (arXiv:1807.03039, published code).
    """

    def __init__(
        self, scales: Sequence[Bijection], shapes: Sequence[Sequence[int]], priors: Sequence[nn.Module] | None = None
    ) -> None:
        super().__init__()
        self.scales, self.shapes = nn.ModuleList(scales), [tuple(s) for s in shapes]
        self.priors = nn.ModuleList(priors) if priors else None

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        total, out = x.new_zeros(len(x)), []
        for i, scale in enumerate(self.scales):
            x, logdet = scale(x, cond)
            total = total + logdet
            if i + 1 < len(self.scales):
                x, half = x.chunk(2, 1)
                log_scale, shift = self.params(i, x)
                out.append((half * log_scale.exp() + shift).flatten(1))
                total = total + sum_features(log_scale)
        return Mapped(torch.cat([*out, x.flatten(1)], 1), total)

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        sizes = [math.prod(s) // 2 for s in self.shapes[:-1]] + [math.prod(self.shapes[-1])]
        *out, x = z.split(sizes, 1)
        x, total = x.unflatten(1, self.shapes[-1]), z.new_zeros(len(z))
        for i in reversed(range(len(self.scales))):
            if i + 1 < len(self.scales):
                log_scale, shift = self.params(i, x)
                half = (out[i].view_as(x) - shift) * (-log_scale).exp()
                x, total = torch.cat([x, half], 1), total - sum_features(log_scale)
            x, logdet = self.scales[i].inverse(x, cond)
            total = total + logdet
        return Mapped(x, total)

    def params(self, i: int, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Log scale and shift, each shaped as `kept` [B, C', H', W'], of the half that is factored out after scale i."""
        if self.priors is None:
            return torch.zeros_like(kept), torch.zeros_like(kept)
        return affine(self.priors[i](kept))


class Flatten(Bijection):
    """[B, *shape] -> [B, D]."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        return Mapped(x.flatten(1), x.new_zeros(len(x)))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        return Mapped(z.unflatten(1, self.shape), z.new_zeros(len(z)))
