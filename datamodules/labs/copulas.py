"""Vectors of a known dependence: copulas with known margins, in the dimensions of MAF's data sets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.base import Batch, Data, Endless, test_set
from datamodules.labs.exact import LOG_2PI, Exact

SIZES = {"power": 6, "gas": 8, "hepmass": 21, "miniboone": 43, "bsds300": 63}
"""Dimensions of the data sets of Papamakarios et al. 2017, arXiv:1705.07057, table 4."""
TINY = 1e-300


class Margin(NamedTuple):
    """A distribution on the line, of variance 1: quantile, distribution function and log density, and its entropy in nats."""

    quantile: Callable[[Tensor], Tensor]
    below: Callable[[Tensor], Tensor]
    log_prob: Callable[[Tensor], Tensor]
    entropy: float


def scaled(
    std: float,
    quantile: Callable[[Tensor], Tensor],
    below: Callable[[Tensor], Tensor],
    log_prob: Callable[[Tensor], Tensor],
    entropy: float,
) -> Margin:
    """A distribution of deviation `std` divided by it."""
    return Margin(
        lambda u: quantile(u) / std,
        lambda x: below(x * std),
        lambda x: log_prob(x * std) + math.log(std),
        entropy - math.log(std),
    )


def laplace_quantile(u: Tensor) -> Tensor:
    """Quantiles of the Laplace distribution of scale 1."""
    return -(u - 0.5).sign() * torch.log((1 - 2 * (u - 0.5).abs()).clamp(min=TINY))


NORMAL = Margin(torch.special.ndtri, torch.special.ndtr, lambda x: -0.5 * (x.square() + LOG_2PI), 0.5 * (LOG_2PI + 1))
LOGISTIC = scaled(
    math.pi / math.sqrt(3),
    torch.logit,
    torch.sigmoid,
    lambda x: torch.nn.functional.logsigmoid(x) + torch.nn.functional.logsigmoid(-x),
    2.0,
)
LAPLACE = scaled(
    math.sqrt(2),
    laplace_quantile,
    lambda x: 0.5 - 0.5 * x.sign() * torch.expm1(-x.abs()),
    lambda x: -x.abs() - math.log(2),
    1 + math.log(2),
)
GUMBEL = scaled(
    math.pi / math.sqrt(6),
    lambda u: -torch.log(-torch.log(u)),
    lambda x: torch.exp(-torch.exp(-x)),
    lambda x: -x - torch.exp(-x),
    1 + 0.5772156649015329,
)
MARGINS = (NORMAL, LOGISTIC, LAPLACE, GUMBEL)


@dataclass(frozen=True)
class GaussianCopula:
    """The copula of normals with a correlation matrix [D, D]."""

    corr: Tensor

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        z = torch.randn(n, len(self.corr), generator=rng, dtype=torch.float64)
        return torch.special.ndtr(z @ torch.linalg.cholesky(self.corr).T)

    def log_prob(self, u: Tensor) -> Tensor:
        z = torch.special.ndtri(u)
        gap = torch.linalg.inv(self.corr) - torch.eye(len(self.corr)).to(self.corr)
        return -0.5 * (((z @ gap) * z).sum(1) + torch.logdet(self.corr))

    def entropy(self) -> float:
        return 0.5 * torch.logdet(self.corr).item()


@dataclass(frozen=True)
class ClaytonCopula:
    """A copula of `size` dimensions that are small together: that of generator (1 + t)^(-1 / theta), of Kendall's tau theta / (theta + 2).

    Source: Nelsen 2006, An Introduction to Copulas, section 4.6; draws: Marshall & Olkin 1988. With them, the sum in the density is
    1 + G / V of independent gamma variables G ~ (D) and V ~ (1 / theta), and so its mean logarithm a difference of digammas.
    """

    size: int
    theta: float = 1.0

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        draw = torch.rand(n, self.size, generator=rng, dtype=torch.float64)
        waits = -torch.log1p(-draw)
        shared = torch._standard_gamma(torch.full((n, 1), 1 / self.theta, dtype=torch.float64), generator=rng)
        return (1 + waits / shared).pow(-1 / self.theta)

    def constant(self) -> float:
        """Logarithm of the density's constant factor."""
        return sum(math.log1p(k * self.theta) for k in range(self.size))

    def log_prob(self, u: Tensor) -> Tensor:
        total = (u.pow(-self.theta) - 1).sum(1).log1p()
        return self.constant() - (self.theta + 1) * u.log().sum(1) - (self.size + 1 / self.theta) * total

    def entropy(self) -> float:
        power = self.size + 1 / self.theta
        pair = torch.tensor([power, 1 / self.theta], dtype=torch.float64).digamma()
        return (power * (pair[0] - pair[1])).item() - self.constant() - (self.theta + 1) * self.size


@dataclass(frozen=True)
class Table:
    """Columns with the margins of `MARGINS` in turn, joined by a copula [n, D] on the unit cube."""

    copula: Exact
    size: int

    def margins(self) -> list[Margin]:
        """The margin of each column."""
        return [MARGINS[i % len(MARGINS)] for i in range(self.size)]

    def each(self, part: str, x: Tensor) -> Tensor:
        """One function of every column's margin, at that column of x [B, D]."""
        return torch.stack([getattr(m, part)(x[:, i]) for i, m in enumerate(self.margins())], 1)

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        return self.each("quantile", self.copula.draw(n, rng).clamp(TINY, 1 - 1e-16))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density [B] of x [B, D]; points whose u float64 cannot tell from 0 or 1 count as the nearest that it can."""
        u = self.each("below", x).clamp(TINY, 1 - 1e-16)
        return self.copula.log_prob(u) + self.each("log_prob", x).sum(1)

    def entropy(self) -> float:
        return self.copula.entropy() + sum(m.entropy for m in self.margins())


def correlation(size: int, *, factors: int = 3) -> Tensor:
    """A fixed correlation matrix [size, size]: a few common factors, and independent noise of each column."""
    rng = torch.Generator().manual_seed(size)
    load = torch.randn(size, factors, generator=rng, dtype=torch.float64)
    cov = load @ load.T + torch.eye(size, dtype=torch.float64)
    std = cov.diagonal().sqrt()
    return cov / std[:, None] / std


COPULAS: dict[str, Callable[[int], Exact]] = {
    "gaussian": lambda size: GaussianCopula(correlation(size)),
    "clayton": ClaytonCopula,
}


class Copulas(Data):
    """Rows [B, D] of a known distribution, fresh at every step; each column has variance 1.

    Args:
        batch: global batch.
        like: the data set whose dimensions it has, a key of `SIZES`.
        copula: 'gaussian' or 'clayton'.

    Raises:
        ValueError: there is no such data set or copula.
    """

    def __init__(self, *, batch: int = 512, like: str = "miniboone", copula: str = "gaussian") -> None:
        super().__init__(batch=batch)
        for what, given, allowed in (("table like", like, SIZES), ("copula", copula, COPULAS)):
            if given not in allowed:
                raise ValueError(f"There is no {what} '{given}'; allowed: {', '.join(allowed)}.")
        size = SIZES[like]
        self.density = Table(COPULAS[copula](size), size)
        self.shape = (size,)
        self.source = Endless(self.draw)

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        """n examples."""
        return {"x": self.density.draw(n, rng).float()}

    def test(self, n: int | None = None) -> Batch:
        return test_set(self.draw, n or 4096)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log density [B] of x [B, D] in nats, float64."""
        return self.density.log_prob(x.double().cpu())

    def entropy(self) -> float:
        """Differential entropy in nats."""
        return self.density.entropy()
