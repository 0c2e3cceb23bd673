"""Bijections that mix dimensions linearly; of images [B, C, H, W], the channels of each pixel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.flows.bijection import Bijection, Mapped, at_each


class Permute(Bijection):
    """The second dimension in another order."""

    def __init__(self, order: Sequence[int] | Tensor) -> None:
        super().__init__()
        order = torch.as_tensor(order)
        self.register_buffer("order", order)
        self.register_buffer("back", order.argsort())

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        return Mapped(x.index_select(1, self.order), x.new_zeros(len(x)))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        return Mapped(z.index_select(1, self.back), z.new_zeros(len(z)))


def mix(weight: Tensor, x: Tensor) -> Tensor:
    """weight [C, C] times the second dimension of x [B, C, *]."""
    return F.linear(x.movedim(1, -1), weight).movedim(-1, 1)


def rotation(size: int) -> Tensor:
    """A random orthogonal matrix [size, size]."""
    return torch.linalg.qr(torch.randn(size, size))[0]


class Mix(Bijection):
    """An invertible matrix, or 1x1 convolution, whose determinant is computed anew each time.

    Source: Kingma & Dhariwal 2018, arXiv:1807.03039, section 3.2.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(rotation(size))

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        return Mapped(mix(self.weight, x), self.logdet(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        return Mapped(mix(torch.linalg.inv(self.weight), z), -self.logdet(z))

    def logdet(self, x: Tensor) -> Tensor:
        return at_each(torch.linalg.slogdet(self.weight)[1], x)


class LUMix(Bijection):
    """The same by its LU factors, P L (U + diag(s)): P and the signs of s stay, and the determinant is a sum.

    Source: Kingma & Dhariwal 2018, arXiv:1807.03039, eq. 10 and 11.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        place, low, up = torch.linalg.lu(rotation(size))
        diagonal = up.diagonal()
        self.register_buffer("place", place)
        self.register_buffer("sign", diagonal.sign())
        self.low, self.up = nn.Parameter(low.tril(-1)), nn.Parameter(up.triu(1))
        self.log_diagonal = nn.Parameter(diagonal.abs().log())

    def factors(self) -> tuple[Tensor, Tensor]:
        """L and U + diag(s), [C, C]."""
        low = self.low.tril(-1) + torch.eye(len(self.sign)).to(self.low)
        return low, self.up.triu(1) + (self.sign * self.log_diagonal.exp()).diag()

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        low, up = self.factors()
        return Mapped(mix(self.place @ low @ up, x), self.logdet(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        low, up = self.factors()
        back = torch.linalg.solve_triangular(low, self.place.mT, upper=False, unitriangular=True)
        return Mapped(mix(torch.linalg.solve_triangular(up, back, upper=True), z), -self.logdet(z))

    def logdet(self, x: Tensor) -> Tensor:
        return at_each(self.log_diagonal.sum(), x)
