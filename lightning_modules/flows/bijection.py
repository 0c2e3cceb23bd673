"""The interface of bijections, and bijections that are built from others.

Source: Papamakarios et al. 2021, arXiv:1912.02762, section 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn


class Mapped(NamedTuple):
    """The image of points under a bijection, and the log-determinant of its Jacobian there."""

    value: Tensor
    """[B, *D]"""
    logdet: Tensor
    """[B]: logarithm of the Jacobian's absolute determinant."""


class Bijection(nn.Module):
    """An invertible map of [B, *D]: `forward` maps data to noise, `inverse` noise to data; both may depend on `cond` [B, C]."""

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        """Noise of data x, and log |dz / dx|."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        """Data of noise z, and log |dx / dz|."""
        raise NotImplementedError(f"{type(self).__name__} has no inverse")


class Chain(Bijection):
    """Bijections one after the other, the first nearest to the data."""

    def __init__(self, parts: Iterable[Bijection]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        total = x.new_zeros(len(x))
        for part in self.parts:
            x, logdet = part(x, cond)
            total = total + logdet
        return Mapped(x, total)

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        total = z.new_zeros(len(z))
        for part in reversed(self.parts):
            z, logdet = part.inverse(z, cond)
            total = total + logdet
        return Mapped(z, total)


class Inverse(Bijection):
    """The inverse of a bijection: an autoregressive flow that is fast to train becomes one that is fast to sample from."""

    def __init__(self, of: Bijection) -> None:
        super().__init__()
        self.of = of

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        return self.of.inverse(x, cond)

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        return self.of(z, cond)


def per_location(logdet: Tensor, x: Tensor) -> Tensor:
    """[B]: the log-determinant [] of a map of channels that is applied at each location of x [B, C, *]."""
    return (logdet * x[0, 0].numel()).expand(len(x))


def sum_features(x: Tensor) -> Tensor:
    """The sum over all dimensions but the first: [B, *D] -> [B]."""
    return x.flatten(1).sum(1)
