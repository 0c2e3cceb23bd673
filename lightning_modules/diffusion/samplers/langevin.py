"""Sampling with the score: annealed Langevin dynamics, and predictor and corrector of the variance-exploding process.

The score is that of the denoiser, (D(y, sigma) - y) / sigma^2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.diffusion.preconditioning import Denoiser
from lightning_modules.diffusion.samplers.chain import normal, pairs, score


@torch.inference_mode()
def annealed_langevin(
    denoise: Denoiser,
    y: Tensor,
    grid: Tensor,
    *,
    repeats: int = 100,
    step_size: float = 0.2,
    finish: bool = True,
    rng: torch.Generator | None = None,
) -> Tensor:
    """Langevin dynamics at each level of the grid but the last, 0; [B, *D].

    Source: Song & Ermon 2019, arXiv:1907.05600, algorithm 1.
    Differs: the step is alpha score + sqrt(2 alpha) noise, as in the authors' code, and twice the paper's.

    Args:
        repeats: T, steps at each level.
        step_size: alpha of a level sigma over sigma^2. The paper's epsilon is step_size times the square of the lowest level:
            2e-5 for 0.01.
        finish: whether the noise of the lowest level is removed at the end by one evaluation (Jolicoeur-Martineau et al. 2020,
            arXiv:2009.05475).
    """
    for sigma, sigma_next in pairs(grid):
        alpha = step_size * sigma.item() ** 2
        for _ in range(repeats):
            y = y + alpha * score(denoise, y, sigma) + (2 * alpha) ** 0.5 * normal(y, rng)
        if finish and sigma_next == 0:
            y = y + sigma.item() ** 2 * score(denoise, y, sigma)
    return y


@torch.inference_mode()
def predictor_corrector(
    denoise: Denoiser,
    y: Tensor,
    grid: Tensor,
    *,
    corrections: int = 1,
    snr: float = 0.16,
    rng: torch.Generator | None = None,
) -> Tensor:
    """A step of the reverse diffusion to each lower level, then Langevin steps at that level; [B, *D].

    Source: Song et al. 2021, arXiv:2011.13456, algorithms 2 and 4.
    Differs: norms are means over the batch, as in the authors' code.

    Args:
        corrections: M, Langevin steps at each level.
        snr: r, the signal-to-noise ratio that sets the size of Langevin steps.
    """
    for sigma, sigma_next in pairs(grid):
        added = (sigma**2 - sigma_next**2).item()
        y = y + added * score(denoise, y, sigma)
        if sigma_next == 0:
            return y
        y = y + added**0.5 * normal(y, rng)
        for _ in range(corrections):
            gradient, n = score(denoise, y, sigma_next), normal(y, rng)
            step = 2 * (snr * norm(n) / norm(gradient)) ** 2
            y = y + step * gradient + (2 * step).sqrt() * n
    return y


def norm(x: Tensor) -> Tensor:
    """The mean over the batch of the norms of x [B, *D]; []."""
    return x.flatten(1).norm(dim=1).mean()
