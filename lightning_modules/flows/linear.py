"""Bijections that are linear in the second dimension: for images [B, C, H, W], in the channels of each pixel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.flows.bijection import Bijection, Mapped, per_location


class Permute(Bijection):
    """A permutation of the second dimension.

    Args:
        order: input index of each output, a permutation of 0..D-1.
    """

    order: Tensor
    inverse_order: Tensor

    def __init__(self, order: Sequence[int] | Tensor) -> None:
        super().__init__()
        order = torch.as_tensor(order)
        self.register_buffer("order", order)
        self.register_buffer("inverse_order", order.argsort())

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        return Mapped(x.index_select(1, self.order), x.new_zeros(len(x)))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        return Mapped(z.index_select(1, self.inverse_order), z.new_zeros(len(z)))


def multiply(weight: Tensor, x: Tensor) -> Tensor:
    """weight [C, C] times the second dimension of x [B, C, *]."""
    return F.linear(x.movedim(1, -1), weight).movedim(-1, 1)


def random_rotation(size: int) -> Tensor:
    """A random orthogonal matrix [size, size]."""
    return torch.linalg.qr(torch.randn(size, size))[0]


def wide(x: Tensor) -> Tensor:
    """x, in float32 where it has 16 bits, for which factorisations and solvers have no kernels."""
    return x.float() if x.dtype.itemsize < 4 else x


class InvertibleLinear(Bijection):
    """An invertible matrix, for images a 1x1 convolution, whose determinant is computed at every call.

    Source: Kingma & Dhariwal 2018, arXiv:1807.03039, section 3.2.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(random_rotation(size))

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        return Mapped(multiply(self.weight, x), self.logdet(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        return Mapped(multiply(torch.linalg.inv(wide(self.weight)).to(z), z), -self.logdet(z))

    def logdet(self, x: Tensor) -> Tensor:
        """[B], for x [B, C, *]."""
        return per_location(torch.linalg.slogdet(wide(self.weight))[1].to(x), x)


class LULinear(Bijection):
    """As `InvertibleLinear`, by LU factors P L (U + diag(s)): P and the signs of s are fixed, and the log-determinant is a sum.

    Source: Kingma & Dhariwal 2018, arXiv:1807.03039, eq. 10 and 11.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        permutation, lower, upper = torch.linalg.lu(random_rotation(size))
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.lower, self.upper = nn.Parameter(lower.tril(-1)), nn.Parameter(upper.triu(1))
        self.log_diagonal = nn.Parameter(diagonal.abs().log())

    def factors(self) -> tuple[Tensor, Tensor]:
        """L and U + diag(s), [C, C]."""
        lower = self.lower.tril(-1) + torch.eye(len(self.sign)).to(self.lower)
        return lower, self.upper.triu(1) + (self.sign * self.log_diagonal.exp()).diag()

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        lower, upper = self.factors()
        return Mapped(multiply(self.permutation @ lower @ upper, x), self.logdet(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        lower, upper = map(wide, self.factors())
        inverse = torch.linalg.solve_triangular(lower, wide(self.permutation.mT), upper=False, unitriangular=True)
        return Mapped(multiply(torch.linalg.solve_triangular(upper, inverse, upper=True).to(z), z), -self.logdet(z))

    def logdet(self, x: Tensor) -> Tensor:
        """[B], for x [B, C, *]."""
        return per_location(self.log_diagonal.sum(), x)
