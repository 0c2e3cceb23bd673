"""Distances between distributions, and the floor that perfect samples would reach, computed in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [D] and covariance [D, D] of examples [N, *D], flattened."""
    x = x.flatten(1).double()
    return x.mean(0), torch.cov(x.T).reshape(x.shape[1], -1)


def root(cov: Tensor) -> Tensor:
    """The symmetric square root [D, D] of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(cov)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def frechet(mean: Tensor, cov: Tensor, other_mean: Tensor, other_cov: Tensor) -> float:
    """Squared Frechet (2-Wasserstein) distance between two Gaussians; covariances may be singular.

    Source: Dowson & Landau 1982, eq. 4.
    """
    half = root(cov)
    cross = torch.linalg.eigvalsh(half @ other_cov @ half).clamp(min=0).sqrt().sum()
    gap = (mean - other_mean).square().sum() + cov.trace() + other_cov.trace() - 2 * cross
    return gap.clamp(min=0).item()


def frechet_of(x: Tensor, reference: tuple[Tensor, Tensor]) -> float:
    """Squared Frechet distance of examples [N, *D] to a (mean [D], covariance [D, D])."""
    mean, cov = reference
    return frechet(*moments(x), mean.double(), cov.double())


def frechet_floor(
    draw: Callable[[int, torch.Generator], Tensor], reference: tuple[Tensor, Tensor], n: int, *, repeats: int = 20
) -> float:
    """What n perfect samples score on average: the mean over `repeats` sets of n true examples, from a fixed seed.

    Args:
        draw: (n, generator) -> true examples [n, *D].
    """
    rng = torch.Generator().manual_seed(0)
    return sum(frechet_of(draw(n, rng), reference) for _ in range(repeats)) / repeats


def excess_nats(
    log_prob: Callable[[Tensor], Tensor], exact: Callable[[Tensor], Tensor], x: Tensor, *, batch: int = 4096
) -> tuple[float, float]:
    """KL divergence of a model from the truth in nats, by examples x [N, *D] of the truth, and its standard error.

    Args:
        log_prob: of the model, [B, *D] -> [B].
        exact: that of the truth.
    """
    gap = torch.cat([exact(part).cpu() - log_prob(part).double().cpu() for part in x.split(batch)])
    return gap.mean().item(), (gap.std() / len(gap) ** 0.5).item()


def sliced_wasserstein(x: Tensor, y: Tensor, *, directions: int = 100, rng: torch.Generator | None = None) -> float:
    """Squared sliced 2-Wasserstein distance between examples [N, *D] and [N, *D], over random directions.

    Source: Bonneel et al. 2015, eq. 6.
    """
    x, y = x.flatten(1).double(), y.flatten(1).double()
    axes = torch.randn(x.shape[1], directions, generator=rng, dtype=torch.float64)
    axes = (axes / axes.norm(dim=0)).to(x.device)
    return ((x @ axes).sort(0).values - (y @ axes).sort(0).values).square().mean().item()


def noise_excess(
    denoise: Callable[[Tensor, Tensor], Tensor],
    exact: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    levels: Tensor,
    *,
    rng: torch.Generator | None = None,
) -> tuple[float, float]:
    """How much the error of the predicted noise exceeds the least possible, and that least; both averaged over levels.

    With n* the exact posterior mean of the noise, E|n - n'|^2 = E|n - n*|^2 + E|n' - n*|^2; the second term is the
    excess and is measured directly. Each of the examples [N, *D] meets one of the levels [T], which take turns.

    Returns:
        (excess, floor), per dimension.
    """
    s = levels[torch.arange(len(x), device=levels.device) % len(levels)].to(x)
    scale = s.reshape(-1, *[1] * (x.ndim - 1))
    n = torch.randn(x.shape, generator=rng, dtype=x.dtype).to(x.device)
    y = x + scale * n
    with torch.inference_mode():
        ours, best = (y - denoise(y, s)) / scale, (y - exact(y, s)) / scale
    return (ours - best).square().mean().item(), (n - best).square().mean().item()
