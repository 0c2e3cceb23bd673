"""One step of the reverse process: the Gaussian from which the example at a lower noise level is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.diffusion.preconditioning import Denoiser, append_dims


class Gaussian(NamedTuple):
    """A normal distribution with independent dimensions."""

    mean: Tensor
    """[B, *D]."""
    variance: Tensor
    """Broadcasts to [B, *D]; float64 where it follows from a table of levels."""


Step = Callable[[Tensor, Tensor, Tensor], Gaussian]
"""(y [B, *D] at level sigma, sigma, sigma_next < sigma) -> distribution of y at level sigma_next. Levels are [] or [B], float64."""
Variance = Callable[[Tensor, Tensor], Tensor]
"""(sigma [B], sigma_next [B]) -> variance [B] of the step from level sigma to sigma_next < sigma."""


def reverse(denoise: Denoiser, variance: Variance) -> Step:
    """The step whose mean is the posterior's with the estimate of x0 in the place of x0, and whose variance is fixed.

    Source: Ho et al. 2020, arXiv:2006.11239, eq. 7 and section 3.2.

    Args:
        variance: `schedules.posterior` or `schedules.forward`.
    """

    def step(y: Tensor, sigma: Tensor, sigma_next: Tensor) -> Gaussian:
        x0 = denoise(y, sigma.to(y).expand(len(y)))
        keep = append_dims(sigma_next**2 / sigma**2, y).to(y)
        return Gaussian(torch.lerp(x0, y, keep), append_dims(variance(sigma, sigma_next), y))

    return step
