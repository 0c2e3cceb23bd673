"""NSF: flows of monotone rational-quadratic splines.

System: Spline flow
Source: Durkan et al. 2019, arXiv:1906.04032, section 3 and appendix A.
Differs: plain networks in place of residual ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.flows.bijection import Bijection, Chain, Mapped
from lightning_modules.flows.coupling import Halves
from lightning_modules.flows.elementwise import ActNorm
from lightning_modules.flows.flow import Flow
from lightning_modules.flows.linear import LULinear, Permute
from lightning_modules.nets.conditioned import MLP
from lightning_modules.nets.masked import MaskedMLP
from lightning_modules.optim import Adam, Optim

LEAST = 1e-3
"""Smallest share of a bin's width and height, and smallest slope."""


def check_bins(bins: int) -> None:
    """Refuse a number of bins that no spline can have.

    Raises:
        ValueError: it is below 2, or so large that the smallest shares do not fit.
    """
    if not 2 <= bins < 1 / LEAST:
        raise ValueError(f"A spline has {bins} bins; it must have 2 to {round(1 / LEAST) - 1}.")


class Bin(NamedTuple):
    """The bin of a spline that each value falls into, [B, D] each."""

    left: Tensor
    width: Tensor
    bottom: Tensor
    height: Tensor
    left_slope: Tensor
    right_slope: Tensor


def edges(raw: Tensor, bound: float) -> Tensor:
    """K unconstrained values along dimension 1 of [B, K, D] -> the K + 1 ascending edges of bins, from -bound to bound."""
    bins = raw.shape[1]
    share = LEAST + (1 - LEAST * bins) * raw.softmax(1)
    inner = 2 * bound * share.cumsum(1)[:, :-1] - bound
    end = torch.full_like(inner[:, :1], bound)
    return torch.cat([-end, inner, end], 1)


def slopes(raw: Tensor) -> Tensor:
    """K - 1 unconstrained values along dimension 1 -> K + 1 positive slopes, 1 where the value is 0 and at both ends."""
    start = torch.log(torch.expm1(torch.tensor(1 - LEAST, dtype=raw.dtype, device=raw.device)))
    return F.pad(LEAST + F.softplus(raw + start), (0, 0, 1, 1), value=1.0)


def bin_of(at: Tensor, raw: Tensor, bound: float, *, by_height: bool) -> Bin:
    """The bin of the splines of `raw` [B, 3 K - 1, D] that each of `at` [B, D] falls into, by x or (`by_height`) by y."""
    bins = (raw.shape[1] + 1) // 3
    wide, high, steep = raw.split([bins, bins, bins - 1], 1)
    x, y, slope = edges(wide, bound), edges(high, bound), slopes(steep)
    inner = (y if by_height else x)[:, 1:-1]
    i = (at[:, None] >= inner).sum(1, keepdim=True)
    left, right, bottom, top = x.gather(1, i), x.gather(1, i + 1), y.gather(1, i), y.gather(1, i + 1)
    found = (left, right - left, bottom, top - bottom, slope.gather(1, i), slope.gather(1, i + 1))
    return Bin(*(f[:, 0] for f in found))


def log_slope(b: Bin, t: Tensor) -> Tensor:
    """The logarithm [B, D] of the spline's slope at a share t [B, D] of the way through a bin: eq. 5."""
    mean, cross = b.height / b.width, t * (1 - t)
    above = b.right_slope * t.square() + 2 * mean * cross + b.left_slope * (1 - t).square()
    below = mean + (b.right_slope + b.left_slope - 2 * mean) * cross
    return 2 * mean.log() + above.log() - 2 * below.log()


def spline(x: Tensor, raw: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """The splines of `raw` [B, 3 K - 1, D] at x [B, D], and the logarithms of their slopes; beyond +-bound, the identity: eq. 4."""
    inside = x.abs() < bound
    at = x.clamp(-bound, bound)
    b = bin_of(at, raw, bound, by_height=False)
    t, mean = (at - b.left) / b.width, b.height / b.width
    cross = t * (1 - t)
    above = b.height * (mean * t.square() + b.left_slope * cross)
    below = mean + (b.right_slope + b.left_slope - 2 * mean) * cross
    return torch.where(inside, b.bottom + above / below, x), torch.where(inside, log_slope(b, t), 0.0)


def inverse_spline(y: Tensor, raw: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """The inverse of `spline` at y [B, D], and the logarithms of its slopes: eq. 6 to 8."""
    inside = y.abs() < bound
    at = y.clamp(-bound, bound)
    b = bin_of(at, raw, bound, by_height=True)
    rise, mean = at - b.bottom, b.height / b.width
    tilt = rise * (b.right_slope + b.left_slope - 2 * mean)
    p, q, r = b.height * (mean - b.left_slope) + tilt, b.height * b.left_slope - tilt, -mean * rise
    t = 2 * r / (-q - (q.square() - 4 * p * r).clamp(min=0).sqrt())
    return torch.where(inside, b.left + t * b.width, y), torch.where(inside, -log_slope(b, t), 0.0)


class SplineCoupling(Bijection):
    """The half that changes passes splines whose parameters depend on the half that stays.

    Args:
        split: which half changes.
        net: (fixed [B, K], cond) -> [B, (3 bins - 1) M] for M entries that change.
        bins: of each spline.
        bound: the spline is the identity beyond +-bound.
    """

    def __init__(self, split: Halves, net: nn.Module, *, bins: int = 8, bound: float = 4.0) -> None:
        super().__init__()
        self.split, self.net, self.bins, self.bound = split, net, bins, bound

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        fixed, changing, _ = self.split.take(x)
        changed, logs = spline(changing, self.params(fixed, cond), self.bound)
        return Mapped(self.split.join(fixed, changed), logs.sum(1))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        fixed, changed, _ = self.split.take(z)
        changing, logs = inverse_spline(changed, self.params(fixed, cond), self.bound)
        return Mapped(self.split.join(fixed, changing), logs.sum(1))

    def params(self, fixed: Tensor, cond: Tensor | None) -> Tensor:
        """Unconstrained parameters [B, 3 bins - 1, M] of the splines."""
        return self.net(fixed, cond).unflatten(1, (3 * self.bins - 1, -1))


class SplineAutoregressive(Bijection):
    """Each value passes a spline whose parameters depend on the values before it.

    Args:
        net: 3 bins - 1 outputs for each input.
        bins, bound: as in `SplineCoupling`.
    """

    def __init__(self, net: MaskedMLP, *, bins: int = 8, bound: float = 4.0) -> None:
        super().__init__()
        self.net, self.bins, self.bound = net, bins, bound

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        z, logs = spline(x, self.params(x, cond), self.bound)
        return Mapped(z, logs.sum(1))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        """One input after the other; where gradients are needed, D whole passes."""
        if torch.is_grad_enabled():
            x = z
            for _ in range(self.net.size):
                x, logs = inverse_spline(z, self.params(x, cond), self.bound)
            return Mapped(x, logs.sum(1))
        logdet = z.new_zeros(len(z))

        def univariate(i: int, outputs: Tensor) -> Tensor:
            x, logs = inverse_spline(z[:, i : i + 1], outputs[:, :, None], self.bound)
            logdet.add_(logs[:, 0])
            return x[:, 0]

        return Mapped(self.net.unroll(univariate, z, cond), logdet)

    def params(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """Unconstrained parameters [B, 3 bins - 1, D] of the splines."""
        return self.net(x, cond).unflatten(1, (3 * self.bins - 1, -1))


class NSF(Flow):
    """Neural spline flow of vectors [B, D].

    Args:
        shape: (D,).
        depth: layers: ActNorm, an invertible matrix and a coupling each; or ActNorm, an autoregressive layer and a reversal of the order.
        width: units of each of two hidden layers.
        bins: of each spline.
        bound: the splines are the identity beyond +-bound.
        autoregressive: the paper's AR form, in place of coupling.
        classes, optim: as in `Flow`.

    Raises:
        ValueError: as `check_bins`.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        depth: int = 4,
        width: int = 64,
        bins: int = 8,
        bound: float = 4.0,
        autoregressive: bool = False,
        classes: int = 0,
        optim: Optim = Adam(),
    ) -> None:
        check_bins(bins)
        size, each = shape[0], 3 * bins - 1
        parts: list[Bijection] = []
        for _ in range(depth):
            if autoregressive:
                masked = MaskedMLP(size, (width, width), each, cond=classes)
                parts += [ActNorm(shape), SplineAutoregressive(masked, bins=bins, bound=bound)]
                parts.append(Permute(torch.arange(size).flip(0)))
            else:
                split = Halves(size)
                mlp = MLP(split.sizes[0], each * split.sizes[1], width=width, cond=classes)
                parts += [ActNorm(shape), LULinear(size), SplineCoupling(split, mlp, bins=bins, bound=bound)]
        super().__init__(Chain(parts), shape, classes=classes, optim=optim)
