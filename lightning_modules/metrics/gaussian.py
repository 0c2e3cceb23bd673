"""The Frechet distance between Gaussians, and the score that perfect samples would get, computed in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [D] and covariance [D, D] of examples [N, *D], flattened."""
    x = x.flatten(1).double()
    return x.mean(0), torch.cov(x.T).reshape(x.shape[1], -1)


def matrix_sqrt(cov: Tensor) -> Tensor:
    """The symmetric square root [D, D] of a positive semi-definite matrix [D, D]; eigenvalues below 0 count as 0."""
    values, vectors = torch.linalg.eigh(cov)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def frechet(mean: Tensor, cov: Tensor, other_mean: Tensor, other_cov: Tensor) -> float:
    """Squared Frechet (2-Wasserstein) distance between two Gaussians with means [D] and covariances [D, D], which may be singular.

    Source: Dowson & Landau 1982, eq. 4.
    """
    half = matrix_sqrt(cov)
    cross = torch.linalg.eigvalsh(half @ other_cov @ half).clamp(min=0).sqrt().sum()
    gap = (mean - other_mean).square().sum() + cov.trace() + other_cov.trace() - 2 * cross
    return gap.clamp(min=0).item()


def frechet_of(x: Tensor, reference: tuple[Tensor, Tensor]) -> float:
    """Squared Frechet distance of examples [N, *D], through their moments, to a reference (mean [D], covariance [D, D])."""
    mean, cov = reference
    return frechet(*moments(x), mean.double(), cov.double())


def gaussian_denoiser(mean: Tensor, cov: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact denoiser of N(mean, cov), mean [D] and covariance [D, D]: (y [B, *D], level [B]) -> posterior mean of x0, [B, *D]."""
    values, axes = torch.linalg.eigh(cov.double())

    def denoise(y: Tensor, sigma: Tensor) -> Tensor:
        centre, basis, v = (a.to(y) for a in (mean, axes, values))
        z = (y.flatten(1) - centre) @ basis
        return (centre + (z * v / (v + sigma[:, None] ** 2)) @ basis.T).reshape(y.shape)

    return denoise


def frechet_floor(
    draw: Callable[[int, torch.Generator], Tensor], reference: tuple[Tensor, Tensor], n: int, *, repeats: int = 20
) -> float:
    """The mean of `frechet_of` for n perfect samples, over `repeats` sets of n true examples from a fixed seed.

    Args:
        draw: (n, generator) -> true examples [n, *D].
        reference: their exact mean [D] and covariance [D, D].
    """
    rng = torch.Generator().manual_seed(0)
    return sum(frechet_of(draw(n, rng), reference) for _ in range(repeats)) / repeats
