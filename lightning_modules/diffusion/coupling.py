"""Which noise each example is paired with in training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_modules.diffusion.preconditioning import Denoiser
from lightning_modules.diffusion.samplers.ddim import ddim
from lightning_modules.draws import Draws
from lightning_modules.model import Batch

Coupling = Callable[[Tensor, Batch, Draws], tuple[Tensor, Tensor]]
"""(examples x0 [B, *D], their batch, random numbers) -> examples and noise, both [B, *D]."""


def independent(x0: Tensor, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
    """Fresh noise for every example."""
    return x0, draws.normal(*x0.shape, device=x0.device).to(x0)


def given(x0: Tensor, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
    """The noise that the data come with, 'noise' in the batch, as `datamodules.transport.Transported` pairs it."""
    return x0, batch["noise"].to(x0)


def reflow(teacher: Callable[[], Denoiser], grid: Tensor) -> Coupling:
    """Fresh noise, and the example that a trained flow leads it to, in place of x0.

    Source: Liu et al. 2023, arXiv:2209.03003, algorithm 1.
    Differs: pairs are made at each step, not once before the training.

    Args:
        teacher: returns the flow's denoiser.
        grid: levels of the flow's path, as a sampler takes them.
    """

    def couple(x0: Tensor, batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        n = draws.normal(*x0.shape, device=x0.device).to(x0)
        with torch.no_grad():
            return ddim(teacher(), grid[0].item() * n, grid).clone(), n

    return couple
