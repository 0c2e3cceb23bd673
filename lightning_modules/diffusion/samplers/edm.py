"""EDM's samplers: Heun's method, deterministic or with churn.

Source: Karras et al. 2022, arXiv:2206.00364, algorithms 1 and 2, table 5.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_modules.diffusion.preconditioning import Denoiser, append_dims
from lightning_modules.diffusion.samplers.chain import at, normal, pairs


@torch.inference_mode()
def heun(
    denoise: Denoiser,
    y: Tensor,
    grid: Tensor,
    *,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_std: float = 1.0,
    rng: torch.Generator | None = None,
) -> Tensor:
    """Second order, two evaluations a step but for the last; [B, *D]. Without churn it is deterministic and `rng` is not used.

    Args:
        churn: S_churn: noise that is added before each of the N steps raises its level by S_churn / N, at most by sqrt(2) - 1.
        churn_min, churn_max: S_min and S_max, the levels between which noise is added.
        churn_std: S_noise, its standard deviation.
    """
    most = min(churn / (len(grid) - 1), math.sqrt(2) - 1)
    for sigma, sigma_next in pairs(grid):
        if most > 0 and churn_min <= sigma <= churn_max:
            raised = sigma * (1 + most)
            y = y + ((raised**2 - sigma**2).sqrt() * churn_std).item() * normal(y, rng)
            sigma = raised
        y = heun_step(denoise, y, sigma, sigma_next)
    return y


def heun_step(denoise: Denoiser, y: Tensor, s: Tensor, r: Tensor) -> Tensor:
    """One step of y [B, *D] from level s to level r; Euler's where r is 0.

    Args:
        s, r: levels [B] above 0, or [] on the CPU, of which r may be 0.
    """
    from_s, to_r = (append_dims(level, y) if level.ndim else level for level in (s, r))
    slope = (y - at(denoise, y, s)) / from_s
    ahead = y + (to_r - from_s) * slope
    if r.ndim == 0 and r == 0:
        return ahead
    slope = (slope + (ahead - at(denoise, ahead, r)) / to_r) / 2
    return y + (to_r - from_s) * slope
