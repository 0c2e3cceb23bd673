"""The variational bound on the log likelihood of a diffusion model, from its denoiser alone.

Source: Ho et al. 2020, arXiv:2006.11239, eq. 5: the prior's term, one term for each step, and the decoder's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.samplers import normal
from lightning_modules.diffusion.weighting import Denoiser, spread
from lightning_modules.objectives import gaussian_kl

Variance = Callable[[Tensor, Tensor], Tensor]
"""(s [B], r [B]) -> variance [B] of the step from level s to r < s."""
Decoder = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x, mean, std) -> log probability of each number of x."""


def prior_term(x: Tensor, s: Tensor) -> Tensor:
    """KL [B] of examples x [B, *D], noised to the last level s [], against a standard normal."""
    keep = 1 / (1 + s**2)
    return gaussian_kl(keep.sqrt() * x, 1 - keep, s.new_zeros(()), s.new_ones(())).flatten(1).sum(1)


def step_term(denoise: Denoiser, x: Tensor, s: Tensor, r: Tensor, n: Tensor, variance: Variance) -> Tensor:
    """KL [B] of the true step from s [B] to r [B] > 0 against the learned one, at y = x + s n; eq. 6 and 7."""
    level = s.to(x)
    error = (denoise(x + spread(level, x) * n, level) - x).square().flatten(1).sum(1)
    true, ours = schedules.posterior(s, r), variance(s, r)
    zero = torch.zeros_like(s)
    return x[0].numel() * gaussian_kl(zero, true, zero, ours) + error * (1 - r**2 / s**2) ** 2 / (2 * ours)


def decoder_term(denoise: Denoiser, x: Tensor, s: Tensor, n: Tensor, decoder: Decoder) -> Tensor:
    """Negative log probability [B] of x given itself at the first level s [], with the forward variance; eq. 13."""
    level = s.to(x)
    mean = denoise(x + level * n, level.expand(len(x)))
    return -decoder(x, mean, (level**2 / (1 + level**2)).sqrt()).flatten(1).sum(1)


def choose(levels: Tensor, n: int, place: Tensor) -> tuple[Tensor, Tensor]:
    """Which of the T - 1 steps to evaluate, and what each counts: an unbiased estimate of the sum over all.

    A step is drawn in proportion to the logarithm of its levels' ratio, which is roughly what it contributes.

    Args:
        n: steps evaluated for each example, by strata of equal weight.
        place: which stratum and where in it, (k + u) / n for u in [0, 1); [B].
    """
    share = levels.log().diff()
    share = share / share.sum()
    index = torch.searchsorted(share.cumsum(0), place.to(share), right=True).clamp(max=len(share) - 1)
    return index, 1 / (n * share[index])


@torch.inference_mode()
def log_prob_bound(
    denoise: Denoiser,
    x: Tensor,
    levels: Tensor,
    *,
    variance: Variance,
    decoder: Decoder,
    terms: int | None = None,
    rng: torch.Generator | None = None,
) -> Tensor:
    """A lower bound [B] on log p(x) in nats, estimated without bias from one noise for each term.

    Args:
        levels: the table [T], ascending, float64.
        terms: of the T - 1 steps, how many are evaluated for each example (see `choose`); None: all.
    """
    steps = len(levels) - 1
    total = prior_term(x, levels[-1]) + decoder_term(denoise, x, levels[0], normal(x, rng), decoder)
    for k in range(terms or steps):
        if terms is None:
            index, weight = torch.full((len(x),), k, device=x.device), 1.0
        else:
            u = torch.rand(len(x), generator=rng, device=rng.device if rng else None).to(x.device)
            index, weight = choose(levels, terms, (k + u) / terms)
        total = total + weight * step_term(denoise, x, levels[index + 1], levels[index], normal(x, rng), variance)
    return -total.to(x)
