"""Monotone rational-quadratic splines, and the flow that is made of them.

Source: Durkan et al. 2019, arXiv:1906.04032, section 3 and appendix A.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.flows.autoregressive import MaskedMLP
from lightning_modules.flows.bijection import Bijection, Chain, Mapped
from lightning_modules.flows.coupling import Halves
from lightning_modules.flows.elementwise import ActNorm
from lightning_modules.flows.flow import Flow
from lightning_modules.flows.linear import LUMix, Permute
from lightning_modules.nets.conditioned import Plain

LEAST = 1e-3
"""Least share of a bin's width and height, and least slope."""


class Bin(NamedTuple):
    """The piece of a spline that each number falls into, [B, D] each."""

    left: Tensor
    width: Tensor
    low: Tensor
    height: Tensor
    enter: Tensor
    """Slope at its left end."""
    leave: Tensor
    """Slope at its right end."""


def edges(raw: Tensor, bound: float) -> Tensor:
    """K free numbers along dimension 1 of [B, K, D] -> K + 1 rising ones from -bound to bound."""
    bins = raw.shape[1]
    share = LEAST + (1 - LEAST * bins) * raw.softmax(1)
    inner = 2 * bound * share.cumsum(1)[:, :-1] - bound
    end = torch.full_like(inner[:, :1], bound)
    return torch.cat([-end, inner, end], 1)


def slopes(raw: Tensor) -> Tensor:
    """K - 1 free numbers -> K + 1 positive ones, 1 where the raw one is 0 and at both ends."""
    start = torch.log(torch.expm1(torch.tensor(1 - LEAST, dtype=raw.dtype, device=raw.device)))
    return F.pad(LEAST + F.softplus(raw + start), (0, 0, 1, 1), value=1.0)


def bin_of(at: Tensor, raw: Tensor, bound: float, *, by_height: bool) -> Bin:
    """Which bin of the spline of `raw` [B, 3 K - 1, D] each of `at` [B, D] falls into, by its place or by its height."""
    bins = (raw.shape[1] + 1) // 3
    wide, high, steep = raw.split([bins, bins, bins - 1], 1)
    x, y, slope = edges(wide, bound), edges(high, bound), slopes(steep)
    inner = (y if by_height else x)[:, 1:-1]
    i = (at[:, None] >= inner).sum(1, keepdim=True)
    left, right, low, up = x.gather(1, i), x.gather(1, i + 1), y.gather(1, i), y.gather(1, i + 1)
    found = (left, right - left, low, up - low, slope.gather(1, i), slope.gather(1, i + 1))
    return Bin(*(f[:, 0] for f in found))


def log_slope(b: Bin, t: Tensor) -> Tensor:
    """Of the spline, a share t of the way through a bin: eq. 5."""
    mean, cross = b.height / b.width, t * (1 - t)
    above = b.leave * t.square() + 2 * mean * cross + b.enter * (1 - t).square()
    below = mean + (b.leave + b.enter - 2 * mean) * cross
    return 2 * mean.log() + above.log() - 2 * below.log()


def bend(x: Tensor, raw: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """The splines of `raw` [B, 3 K - 1, D] at x [B, D], and the logarithms of their slopes; beyond +-bound, the identity: eq. 4."""
    inside = x.abs() < bound
    at = x.clamp(-bound, bound)
    b = bin_of(at, raw, bound, by_height=False)
    t, mean = (at - b.left) / b.width, b.height / b.width
    cross = t * (1 - t)
    rise = b.height * (mean * t.square() + b.enter * cross) / (mean + (b.leave + b.enter - 2 * mean) * cross)
    return torch.where(inside, b.low + rise, x), torch.where(inside, log_slope(b, t), 0.0)


def unbend(y: Tensor, raw: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """The inverse of `bend`, and the logarithms of its slopes: eq. 6 to 8."""
    inside = y.abs() < bound
    at = y.clamp(-bound, bound)
    b = bin_of(at, raw, bound, by_height=True)
    rise, mean = at - b.low, b.height / b.width
    tilt = rise * (b.leave + b.enter - 2 * mean)
    p, q, r = b.height * (mean - b.enter) + tilt, b.height * b.enter - tilt, -mean * rise
    t = 2 * r / (-q - (q.square() - 4 * p * r).clamp(min=0).sqrt())
    return torch.where(inside, b.left + t * b.width, y), torch.where(inside, -log_slope(b, t), 0.0)


class SplineCoupling(Bijection):
    """What moves is bent by splines that are told by what is known.

    Args:
        parts: which half moves.
        net: (known [B, K], cond) -> [B, (3 bins - 1) M] for M numbers that move.
        bins: pieces of each spline.
        bound: beyond +-bound nothing moves.
    """

    def __init__(self, parts: Halves, net: nn.Module, *, bins: int = 8, bound: float = 4.0) -> None:
        super().__init__()
        self.parts, self.net, self.bins, self.bound = parts, net, bins, bound

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        known, moving, _ = self.parts.take(x)
        moved, logs = bend(moving, self.told(known, cond), self.bound)
        return Mapped(self.parts.join(known, moved), logs.sum(1))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        known, moved, _ = self.parts.take(z)
        moving, logs = unbend(moved, self.told(known, cond), self.bound)
        return Mapped(self.parts.join(known, moving), logs.sum(1))

    def told(self, known: Tensor, cond: Tensor | None) -> Tensor:
        return self.net(known, cond).unflatten(1, (3 * self.bins - 1, -1))


class SplineAutoregressive(Bijection):
    """Each number is bent by a spline that is told by those before it.

    Args:
        net: puts out 3 bins - 1 numbers for each.
        bins, bound: as in `SplineCoupling`.
    """

    def __init__(self, net: MaskedMLP, *, bins: int = 8, bound: float = 4.0) -> None:
        super().__init__()
        self.net, self.bins, self.bound = net, bins, bound

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        z, logs = bend(x, self.told(x, cond), self.bound)
        return Mapped(z, logs.sum(1))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        """One place after the other; where gradients are wanted, D whole passes."""
        if torch.is_grad_enabled():
            x = z
            for _ in range(self.net.size):
                x, logs = unbend(z, self.told(x, cond), self.bound)
            return Mapped(x, logs.sum(1))
        logdet = z.new_zeros(len(z))

        def fill(i: int, numbers: Tensor) -> Tensor:
            x, logs = unbend(z[:, i : i + 1], numbers[:, :, None], self.bound)
            logdet.add_(logs[:, 0])
            return x[:, 0]

        return Mapped(self.net.unroll(fill, z, cond), logdet)

    def told(self, x: Tensor, cond: Tensor | None) -> Tensor:
        return self.net(x, cond).unflatten(1, (3 * self.bins - 1, -1))


class NSF(Flow):
    """Neural spline flow: vectors [B, D].

    Args:
        shape: (D,).
        depth: layers, each after an ActNorm and a mixing matrix (coupling) or a turned order (autoregressive).
        width: units of each of two hidden layers.
        bins: pieces of each spline.
        bound: splines reach from -bound to bound.
        autoregressive: the paper's AR form, in place of coupling.
        classes, lr, warmup: as in `Flow`.

    Differs: plain networks in place of residual ones.
    """

    def __init__(
        self,
        shape: tuple[int],
        *,
        depth: int = 4,
        width: int = 64,
        bins: int = 8,
        bound: float = 4.0,
        autoregressive: bool = False,
        classes: int = 0,
        lr: float = 1e-3,
        warmup: int = 0,
    ) -> None:
        size, each = shape[0], 3 * bins - 1
        parts: list[Bijection] = []
        for _ in range(depth):
            if autoregressive:
                net = MaskedMLP(size, (width, width), each, cond=classes)
                parts += [ActNorm(shape), SplineAutoregressive(net, bins=bins, bound=bound)]
                parts.append(Permute(torch.arange(size).flip(0)))
            else:
                half = Halves(size)
                plain = Plain(half.sizes[0], each * half.sizes[1], width=width, cond=classes)
                parts += [ActNorm(shape), LUMix(size), SplineCoupling(half, plain, bins=bins, bound=bound)]
        super().__init__(Chain(parts), shape, classes=classes, lr=lr, warmup=warmup)
