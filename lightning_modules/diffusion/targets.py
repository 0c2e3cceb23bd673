"""The one loss of denoising: what the denoiser is to answer, and how its error is measured."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lightning_modules.diffusion.preconditioning import Denoiser, append_dims

Target = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(x0 [B, *D], y [B, *D], sigma [B], n [B, *D]) -> what D(y, sigma) is to answer, [B, *D]."""
Distance = Callable[[Tensor, Tensor], Tensor]
"""(answer [B, *D], target [B, *D]) -> distance [B]."""


def clean(x0: Tensor, y: Tensor, sigma: Tensor, n: Tensor) -> Tensor:
    """The example x0 itself: the best answer is the posterior mean E[x0 | y]."""
    return x0


def squared(a: Tensor, b: Tensor) -> Tensor:
    """Squared error [B], the mean over dimensions."""
    return (a - b).square().flatten(1).mean(1)


def pseudo_huber(a: Tensor, b: Tensor, c: float = 0.03) -> Tensor:
    """sqrt(|a - b|^2 + c^2) - c, [B], with the norm over all dimensions.

    Source: Song & Dhariwal 2024, arXiv:2310.14189, section 3.3.
    """
    return ((a - b).square().flatten(1).sum(1) + c**2).sqrt() - c


def denoising_loss(
    denoise: Denoiser,
    x0: Tensor,
    sigma: Tensor,
    n: Tensor,
    weight: Tensor,
    *,
    target: Target = clean,
    distance: Distance = squared,
) -> Tensor:
    """weight [B] times the distance between D(y, sigma) and its target at y = x0 + sigma n; [B].

    Args:
        x0, n: examples and noise, [B, *D].
        sigma: levels [B].
    """
    y = x0 + append_dims(sigma, x0) * n
    return weight * distance(denoise(y, sigma), target(x0, y, sigma, n))
