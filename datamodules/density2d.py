"""Densities on the plane that are known exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from datamodules.base import Batch, Data, Endless


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
        k = torch.multinomial(self.weight, n, replacement=True, generator=rng)
        z = torch.randn(n, self.mean.shape[1], generator=rng, dtype=self.mean.dtype)
        return self.mean[k] + (torch.linalg.cholesky(self.cov)[k] @ z[:, :, None])[:, :, 0]

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

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean [D] and covariance [D, D] of the whole mixture."""
        mean = self.weight @ self.mean
        gap = self.mean - mean
        between = torch.einsum("k,ki,kj->ij", self.weight, gap, gap)
        return mean, between + torch.einsum("k,kij->ij", self.weight, self.cov)

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
    """Narrow Gaussians turned around the centre, unequal in weight."""
    angle = torch.arange(arms, dtype=torch.float64) * 2 * math.pi / arms
    out = torch.stack([angle.cos(), angle.sin()], 1)
    turned = torch.stack([out, torch.stack([-out[:, 1], out[:, 0]], 1)], 2)
    spread = torch.diag(torch.tensor([length, breadth], dtype=torch.float64) ** 2)
    share = torch.arange(1, arms + 1, dtype=torch.float64)
    return Mixture(share / share.sum(), 0.8 * out, turned @ spread @ turned.mT)


def weights(components: int) -> Tensor:
    return torch.full((components,), 1 / components, dtype=torch.float64)


SHAPES = {"ring": ring, "grid": grid, "sharp_grid": partial(grid, std=0.03), "pinwheel": pinwheel}


class Density2D(Data):
    """Points [B, 2] of a known mixture, fresh at every step.

    Args:
        batch: global batch.
        name: 'ring', 'grid', 'sharp_grid' (between its modes is nearly nothing) or 'pinwheel'.

    Raises:
        ValueError: there is no such density.
    """

    shape = (2,)

    def __init__(self, batch: int = 2048, *, name: str = "ring") -> None:
        super().__init__(batch)
        if name not in SHAPES:
            raise ValueError(f"There is no density '{name}'; allowed: {', '.join(SHAPES)}.")
        self.density = SHAPES[name]()
        self.source = Endless(self.draw)

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        """n examples."""
        return {"x": self.density.draw(n, rng).float()}

    def test(self, n: int | None = None) -> Batch:
        return self.draw(n or 4096, torch.Generator().manual_seed(2**40))

    def entropy(self, n: int = 100_000) -> float:
        """Differential entropy in nats, by Monte Carlo over n points from a fixed seed."""
        return -self.density.log_prob(self.density.draw(n, torch.Generator().manual_seed(1))).mean().item()
