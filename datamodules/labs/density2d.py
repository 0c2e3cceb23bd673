"""Densities of the plane that are known exactly, by their names."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from datamodules.base import Batch, Data, Endless, test_set
from datamodules.labs.exact import (
    Checkerboard,
    Exact,
    Funnel,
    Normal,
    Rings,
    Rotated,
    Union,
    Warped,
    rotation,
    square_entropy,
)


@dataclass(frozen=True)
class Mixture:
    """A mixture of Gaussians in D dimensions with one full covariance for each component.

    Args:
        weight: [K], sums to 1.
        mean: [K, D].
        cov: [K, D, D].
    """

    weight: Tensor
    mean: Tensor
    cov: Tensor

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """n examples [n, D], of the mixture's type."""
        return self.draw_labelled(n, rng)[0]

    def draw_labelled(self, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """n examples [n, D], of the mixture's type, and the component [n] of each."""
        k = torch.multinomial(self.weight, n, replacement=True, generator=rng)
        z = torch.randn(n, self.mean.shape[1], generator=rng, dtype=self.mean.dtype)
        return self.mean[k] + (torch.linalg.cholesky(self.cov)[k] @ z[:, :, None])[:, :, 0], k

    def parts(self, y: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Log of weight times density of each component noised to level s [B], [B, K], and cov^-1 (y - mean) [B, K, D]."""
        noised = self.cov + s[:, None, None, None] ** 2 * torch.eye(self.mean.shape[1]).to(self.cov)
        gap = y[:, None] - self.mean
        solved = torch.linalg.solve(noised, gap[..., None])[..., 0]
        logs = -0.5 * ((gap * solved).sum(-1) + torch.logdet(2 * math.pi * noised)) + self.weight.log()
        return logs, solved

    def log_prob(self, y: Tensor, s: Tensor | None = None) -> Tensor:
        """Log density [B] in nats of y [B, D] at noise level s [B] (none: of the data)."""
        return self.parts(y, y.new_zeros(len(y)) if s is None else s)[0].logsumexp(1)

    def score(self, y: Tensor, s: Tensor) -> Tensor:
        """Gradient [B, D] of the log density of y [B, D] at level s [B]."""
        logs, solved = self.parts(y, s)
        return -(logs.softmax(1)[..., None] * solved).sum(1)

    def denoise(self, y: Tensor, s: Tensor) -> Tensor:
        """The exact posterior mean of x given y = x + s n, [B, D], in the type of y; Tweedie's formula."""
        wide, level = y.to(self.mean), s.to(self.mean)
        return (wide + level[:, None] ** 2 * self.score(wide, level)).to(y)

    def denoise_given(self, y: Tensor, s: Tensor, label: Tensor) -> Tensor:
        """The exact posterior mean of x given y = x + s n and its component [B], [B, D], in the type of y."""
        wide, level = y.to(self.mean), s.to(self.mean)
        rows = torch.arange(len(y), device=wide.device)
        return (wide - level[:, None] ** 2 * self.parts(wide, level)[1][rows, label.to(wide.device)]).to(y)

    def log_label(self, y: Tensor, s: Tensor) -> Tensor:
        """The exact noisy classifier: log probability [B, K] of each component given y [B, D] at level s [B], of the mixture's type."""
        return self.parts(y.to(self.mean), s.to(self.mean))[0].log_softmax(1)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean [D] and covariance [D, D] of the whole mixture."""
        mean = self.weight @ self.mean
        gap = self.mean - mean
        between = torch.einsum("k,ki,kj->ij", self.weight, gap, gap)
        return mean, between + torch.einsum("k,kij->ij", self.weight, self.cov)

    def entropy(self) -> float:
        """Differential entropy in nats, by integration over the plane.

        Raises:
            ValueError: the mixture is not of the plane.
        """
        if self.mean.shape[1] != 2:
            raise ValueError(f"The entropy of a mixture is known in 2 dimensions, not in {self.mean.shape[1]}.")
        spread = torch.linalg.eigvalsh(self.cov).sqrt()
        return square_entropy(self.log_prob, (self.mean.abs().max() + 8 * spread.max()).item(), spread.min().item() / 3)

    def coverage(self, x: Tensor) -> float:
        """Total variation between the shares of the components among examples x [N, D] and their weights; 0 is perfect."""
        nearest = self.parts(x.to(self.mean), torch.zeros(len(x)).to(self.mean))[0].argmax(1)
        share = torch.bincount(nearest, minlength=len(self.weight)) / len(x)
        return 0.5 * (share - self.weight).abs().sum().item()


def ring(components: int = 8, radius: float = 1.0, std: float = 0.1) -> Mixture:
    """Equal round Gaussians on a circle."""
    angle = torch.arange(components, dtype=torch.float64) * 2 * math.pi / components
    mean = radius * torch.stack([angle.cos(), angle.sin()], 1)
    return Mixture(weights(components), mean, std**2 * torch.eye(2).double().repeat(components, 1, 1))


def grid(side: int = 5, spacing: float = 0.5, std: float = 0.08) -> Mixture:
    """Equal round Gaussians on a square lattice around 0."""
    line = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) * spacing
    return Mixture(
        weights(side**2), torch.cartesian_prod(line, line), std**2 * torch.eye(2).double().repeat(side**2, 1, 1)
    )


def pinwheel(arms: int = 5, length: float = 0.25, breadth: float = 0.06) -> Mixture:
    """Narrow Gaussians arranged around the centre like the arms of a pinwheel, of unequal weights."""
    angle = torch.arange(arms, dtype=torch.float64) * 2 * math.pi / arms
    out = torch.stack([angle.cos(), angle.sin()], 1)
    turned = torch.stack([out, torch.stack([-out[:, 1], out[:, 0]], 1)], 2)
    spread = torch.diag(torch.tensor([length, breadth], dtype=torch.float64) ** 2)
    share = torch.arange(1, arms + 1, dtype=torch.float64)
    return Mixture(share / share.sum(), 0.8 * out, turned @ spread @ turned.mT)


def weights(components: int) -> Tensor:
    """Equal weights [components], float64."""
    return torch.full((components,), 1 / components, dtype=torch.float64)


def twisted(x: Tensor, turn: float) -> Tensor:
    """Points [n, 2], each rotated around 0 by `turn` radians times its radius; the map keeps areas."""
    angle = turn * x.norm(dim=1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * x[:, 0] - sin * x[:, 1], sin * x[:, 0] + cos * x[:, 1]], 1)


def spirals(arms: int = 2, turn: float = 5.0) -> Warped:
    """Narrow Gaussians that reach out from near the centre, twisted into spirals."""
    straight = pinwheel(arms, length=0.28, breadth=0.05)
    equal = Mixture(weights(arms), straight.mean, straight.cov)
    return Warped(equal, partial(twisted, turn=turn), partial(twisted, turn=-turn))


def sheared(base: Exact, bend: Callable[[Tensor], Tensor], flip: float = 1.0) -> Warped:
    """Draws (x1, x2) of `base` mapped to (x1, x2 + bend(x1)); with `flip` -1 the second coordinate is also negated."""

    def forward(x: Tensor) -> Tensor:
        return torch.stack([x[:, 0], flip * (x[:, 1] + bend(x[:, 0]))], 1)

    def inverse(x: Tensor) -> Tensor:
        return torch.stack([x[:, 0], flip * x[:, 1] - bend(x[:, 0])], 1)

    return Warped(base, forward, inverse)


def normal(*std: float) -> Normal:
    """Independent normals with these deviations."""
    return Normal(torch.tensor(std, dtype=torch.float64))


def banana() -> Warped:
    """A Gaussian bent into a parabola."""
    return sheared(normal(0.6, 0.1), lambda x: 1.2 * x.square() - 0.4)


def wave() -> Warped:
    """A Gaussian bent into a sine."""
    return sheared(normal(0.8, 0.1), lambda x: 0.6 * (4 * x).sin())


def shifted(base: Exact, by: tuple[float, float]) -> Warped:
    """Draws of `base` moved by a vector."""
    step = torch.tensor(by, dtype=torch.float64)
    return Warped(base, lambda x: x + step, lambda x: x - step)


def moons() -> Union:
    """Two bananas, one upside down, that interlock."""
    arc = normal(0.35, 0.08)
    up, down = (sheared(arc, lambda x: 1.5 * x.square() - 0.5, flip) for flip in (1.0, -1.0))
    return Union([shifted(up, (0.3, 0.1)), shifted(down, (-0.3, -0.1))], reach=6.0, step=0.02)


SHAPES: dict[str, Callable[[], Mixture]] = {
    "ring": ring,
    "grid": grid,
    "sharp_grid": partial(grid, std=0.03),
    "pinwheel": pinwheel,
}
"""Mixtures of Gaussians ('sharp_grid' has next to nothing between its modes): their noised densities and scores are known, too."""
DENSITIES: dict[str, Callable[[], Exact]] = {
    **SHAPES,
    "checkerboard": Checkerboard,
    "rings": Rings,
    "spirals": spirals,
    "moons": moons,
    "banana": banana,
    "wave": wave,
    "funnel": Funnel,
}


def named(name: str, *, mixture: bool = False) -> Exact:
    """The density of a name; with `mixture`, only where it is a mixture of Gaussians.

    Raises:
        ValueError: there is no such density.
    """
    allowed = SHAPES if mixture else DENSITIES
    if name not in allowed:
        raise ValueError(f"There is no {'mixture' if mixture else 'density'} '{name}'; allowed: {', '.join(allowed)}.")
    return allowed[name]()


class Density2D(Data):
    """Points [B, size] of a known density of the plane, fresh at every step.

    Args:
        batch: global batch.
        name: a key of `DENSITIES`.
        size: D; beyond 2, the plane's points are joined by D - 2 independent standard normal values, and all is rotated, always alike.
        mixture: refuse densities that are no mixture of Gaussians: only a mixture's noised score is known.
        labels: whether the label of a point is the component of the mixture that it is drawn from.

    Raises:
        ValueError: there is no such density, or no such size; labels are asked of points beyond the plane.
    """

    def __init__(
        self, *, batch: int = 2048, name: str = "ring", size: int = 2, mixture: bool = False, labels: bool = False
    ) -> None:
        super().__init__(batch=batch)
        if size < 2:
            raise ValueError(f"A density of the plane has at least 2 dimensions, not {size}.")
        if labels and size > 2:
            raise ValueError(f"Points have labels in 2 dimensions, not in {size}.")
        plane = named(name, mixture=mixture or labels)
        self.density: Any = plane if size == 2 else Rotated(plane, rotation(size))
        self.shape = (size,)
        self.classes = len(self.density.weight) if labels else 0
        self.source = Endless(self.draw)

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        """n examples."""
        if not self.classes:
            return {"x": self.density.draw(n, rng).float()}
        x, label = self.density.draw_labelled(n, rng)
        return {"x": x.float(), "label": label}

    def test(self, n: int | None = None) -> Batch:
        return test_set(self.draw, n or 4096)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log density [B] of x [B, size] in nats, float64."""
        return self.density.log_prob(x.double().cpu())

    def entropy(self) -> float:
        """Differential entropy in nats."""
        return self.density.entropy()
