"""Bijections and what is built from any of them.

Source: Papamakarios et al. 2021, arXiv:1912.02762, section 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn


class Mapped(NamedTuple):
    """Where points went, and by how much the map stretched space there."""

    value: Tensor
    """[B, *D]"""
    logdet: Tensor
    """[B]: the logarithm of the Jacobian's absolute determinant."""


class Bijection(nn.Module):
    """An invertible map of [B, *D]: `forward` leads from data to noise, `inverse` back. `cond` [B, C] may steer either."""

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        raise NotImplementedError(f"{type(self).__name__} does not say where data go")

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        raise NotImplementedError(f"{type(self).__name__} does not say where noise goes")


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
    """A bijection the other way round: an autoregressive flow that was quick to train becomes one that is quick to sample."""

    def __init__(self, of: Bijection) -> None:
        super().__init__()
        self.of = of

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        return self.of.inverse(x, cond)

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        return self.of(z, cond)


def at_each(logdet: Tensor, x: Tensor) -> Tensor:
    """[B]: a log-determinant [] of what is done to the channels, at each of the places that x [B, C, *] has of them."""
    return (logdet * x[0, 0].numel()).expand(len(x))


def rows(x: Tensor) -> Tensor:
    """The sum over all but the first dimension: [B, *D] -> [B]."""
    return x.flatten(1).sum(1)
