"""Densities whose logarithm, entropy and draws are known exactly, and densities that are built from others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


class Exact(Protocol):
    """A density of vectors of D dimensions, in float64."""

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """n examples [n, D]."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density [B] in nats of x [B, D]; minus infinity where there is none."""
        ...

    def entropy(self) -> float:
        """Differential entropy in nats."""
        ...


def square_entropy(log_prob: Callable[[Tensor], Tensor], reach: float, step: float) -> float:
    """Entropy in nats of a smooth density on the square [-reach, reach]^2, by the trapezoidal rule.

    For densities that fall as Gaussians do, the error falls as exp(-2 (pi s / step)^2) with s the least deviation in any direction.
    """
    line = torch.arange(-reach, reach + step, step, dtype=torch.float64)
    total = 0.0
    for points in torch.cartesian_prod(line, line).split(2**16):
        logs = log_prob(points)
        total += -torch.special.xlogy(logs.exp(), logs.exp()).sum().item() * step**2
    return total


@dataclass(frozen=True)
class Warped:
    """Draws of `base` moved by a map that keeps volumes: the density moves with them, and the entropy stays.

    Args:
        forward: [n, D] -> [n, D], of Jacobian determinant +-1.
        inverse: its inverse.
    """

    base: Exact
    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        return self.forward(self.base.draw(n, rng))

    def log_prob(self, x: Tensor) -> Tensor:
        return self.base.log_prob(self.inverse(x))

    def entropy(self) -> float:
        return self.base.entropy()


@dataclass(frozen=True)
class Union:
    """A mixture of densities of the plane, of equal weights; their supports are in [-reach, reach]^2."""

    parts: Sequence[Exact]
    reach: float
    step: float

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        which = torch.randint(len(self.parts), (n,), generator=rng)
        whole = torch.stack([part.draw(n, rng) for part in self.parts])
        return whole[which, torch.arange(n)]

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.stack([part.log_prob(x) for part in self.parts]).logsumexp(0) - math.log(len(self.parts))

    def entropy(self) -> float:
        return square_entropy(self.log_prob, self.reach, self.step)


@dataclass(frozen=True)
class Normal:
    """Independent normals of mean 0.

    Args:
        std: [D].
    """

    std: Tensor

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        return torch.randn(n, len(self.std), generator=rng, dtype=torch.float64) * self.std

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * ((x / self.std).square() + LOG_2PI).sum(1) - self.std.log().sum()

    def entropy(self) -> float:
        return (0.5 * (LOG_2PI + 1) + self.std.log()).sum().item()


@dataclass(frozen=True)
class Checkerboard:
    """The uniform density on every other one of `squares` x `squares` squares that fill [-1, 1]^2; `squares` is even."""

    squares: int = 4
    FINE = 2**20

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        row = torch.randint(self.squares, (n,), generator=rng)
        column = 2 * torch.randint(self.squares // 2, (n,), generator=rng) + row % 2
        # Points of a lattice that float32 represents: none is rounded into the next square.
        inside = (torch.randint(self.FINE, (n, 2), generator=rng).double() + 0.5) / self.FINE
        return (torch.stack([row, column], 1) + inside) * 2 / self.squares - 1

    def log_prob(self, x: Tensor) -> Tensor:
        square = ((x + 1) * self.squares / 2).floor()
        dark = ((square >= 0) & (square < self.squares)).all(1) & (square.sum(1) % 2 == 0)
        return torch.where(dark, -math.log(2.0), -math.inf).to(x)

    def entropy(self) -> float:
        return math.log(2)


@dataclass(frozen=True)
class Rings:
    """Rings around 0: the radius is a mixture of normals cut at 0, with weights in proportion to their means; the angle is uniform."""

    radii: tuple[float, ...] = (0.4, 0.8, 1.2)
    std: float = 0.06

    def _mean(self) -> tuple[Tensor, Tensor]:
        """Means [K] and weights [K] of the normals."""
        mean = torch.tensor(self.radii, dtype=torch.float64)
        return mean, mean / mean.sum()

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        mean, weight = self._mean()
        mean = mean[torch.multinomial(weight, n, replacement=True, generator=rng)]
        angle, u = 2 * math.pi * torch.rand(n, generator=rng).double(), torch.rand(n, generator=rng).double()
        cut = torch.special.ndtr(-mean / self.std)
        u = (cut + (1 - cut) * u).clamp(1e-300, 1 - 1e-16)
        radius = mean + self.std * torch.special.ndtri(u)
        return radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)

    def log_radius(self, r: Tensor) -> Tensor:
        """Log density [B] of radii r [B]."""
        mean, weight = self._mean()
        logs = -0.5 * (((r[:, None] - mean) / self.std).square() + LOG_2PI) - math.log(self.std)
        return (logs - torch.special.log_ndtr(mean / self.std) + weight.log()).logsumexp(1)

    def log_prob(self, x: Tensor) -> Tensor:
        r = x.norm(dim=1)
        return self.log_radius(r) - (2 * math.pi * r).log()

    def entropy(self) -> float:
        step = self.std / 200
        r = torch.arange(0.5, (max(self.radii) + 12 * self.std) / step, dtype=torch.float64) * step
        logs = self.log_radius(r)
        return (logs.exp() * ((2 * math.pi * r).log() - logs)).sum().item() * step


@dataclass(frozen=True)
class Funnel:
    """A normal v of deviation `wide`, and a second normal of deviation `narrow` exp(v).

    Source: after Neal 2003, Slice sampling, section 8.
    """

    wide: float = 0.5
    narrow: float = 0.2

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        z = torch.randn(n, 2, generator=rng, dtype=torch.float64)
        v = self.wide * z[:, 0]
        return torch.stack([v, self.narrow * v.exp() * z[:, 1]], 1)

    def log_prob(self, x: Tensor) -> Tensor:
        v, y = x.unbind(1)
        square = (v / self.wide).square() + (y / (self.narrow * v.exp())).square()
        return -0.5 * square - LOG_2PI - math.log(self.wide * self.narrow) - v

    def entropy(self) -> float:
        return LOG_2PI + 1 + math.log(self.wide * self.narrow)


@dataclass(frozen=True)
class Rotated:
    """A density of d dimensions joined by independent standard normals, D dimensions in all, and rotated.

    Args:
        base: of d dimensions.
        turn: [D, D], orthogonal.
        inner: d.
    """

    base: Exact
    turn: Tensor
    inner: int = 2

    @property
    def rest(self) -> Normal:
        """The D - d standard normals."""
        return Normal(torch.ones(len(self.turn) - self.inner, dtype=torch.float64))

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        return torch.cat([self.base.draw(n, rng), self.rest.draw(n, rng)], 1) @ self.turn.T

    def log_prob(self, x: Tensor) -> Tensor:
        flat = x @ self.turn
        return self.base.log_prob(flat[:, : self.inner]) + self.rest.log_prob(flat[:, self.inner :])

    def entropy(self) -> float:
        return self.base.entropy() + self.rest.entropy()


def rotation(size: int) -> Tensor:
    """A fixed random rotation [size, size]."""
    rng = torch.Generator().manual_seed(size)
    q, r = torch.linalg.qr(torch.randn(size, size, generator=rng, dtype=torch.float64))
    return q * r.diagonal().sign()
