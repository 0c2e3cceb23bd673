"""The variational bound on the log likelihood of a diffusion model, from its reverse steps.

Source: Ho et al. 2020, arXiv:2006.11239, eq. 5: the prior's term, one term for each step, and the decoder's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_modules import draws
from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.preconditioning import append_dims
from lightning_modules.diffusion.samplers.chain import normal
from lightning_modules.diffusion.steps import Step, reverse
from lightning_modules.objectives import gaussian_kl

Decoder = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x, mean, std) -> log probability of each number of x."""


def prior_term(x: Tensor, sigma: Tensor, data_std: float = 1.0) -> Tensor:
    """KL [B] of examples x [B, *D], noised to the last level sigma [], against N(0, data_std^2 + sigma^2), where sampling starts."""
    zero = torch.zeros_like(sigma)
    return gaussian_kl(x, sigma**2, zero, data_std**2 + sigma**2).flatten(1).sum(1)


def step_term(step: Step, x: Tensor, sigma: Tensor, sigma_next: Tensor, n: Tensor) -> Tensor:
    """KL [B] of the true step from sigma [B] to sigma_next [B] > 0 against the learned one, at y = x + sigma n; eq. 6 and 7."""
    y = x + append_dims(sigma, x).to(x) * n
    true = reverse(lambda y, sigma: x, schedules.posterior)(y, sigma, sigma_next)
    ours = step(y, sigma, sigma_next)
    return gaussian_kl(true.mean, true.variance, ours.mean, ours.variance).flatten(1).sum(1)


def decoder_term(step: Step, x: Tensor, sigma: Tensor, n: Tensor, decoder: Decoder) -> Tensor:
    """Negative log probability [B] of x given itself at the first level sigma [], where the last step has a variance; eq. 13.

    A last step without variance, such as the posterior's, is given the forward process' variance.
    """
    zero = torch.zeros_like(sigma)
    last = step(x + sigma.to(x) * n, sigma, zero)
    variance = torch.where(last.variance > 0, last.variance, schedules.forward(sigma, zero))
    return -decoder(x, last.mean, variance.sqrt().to(x)).flatten(1).sum(1)


def choose(levels: Tensor, n: int, place: Tensor) -> tuple[Tensor, Tensor]:
    """Which of the T - 1 steps to evaluate, and what each counts: an unbiased estimate of the sum over all.

    A step is drawn in proportion to the logarithm of its levels' ratio, which is roughly what it contributes.

    Args:
        levels: table [T], ascending.
        n: steps evaluated for each example, by strata of equal weight.
        place: which stratum and where in it, (k + u) / n for u in [0, 1); [B].

    Returns:
        indices [B] of steps and their weights [B].
    """
    share = levels.log().diff()
    share = share / share.sum()
    index = torch.searchsorted(share.cumsum(0), place.to(share), right=True).clamp(max=len(share) - 1)
    return index, 1 / (n * share[index])


@torch.inference_mode()
def log_prob_bound(
    step: Step,
    x: Tensor,
    levels: Tensor,
    *,
    decoder: Decoder,
    data_std: float,
    terms: int | None = None,
    rng: torch.Generator | None = None,
) -> Tensor:
    """A lower bound [B] on log p(x) in nats, estimated without bias from one noise for each term.

    Args:
        levels: the table [T], ascending, float64.
        data_std: of the prior N(0, data_std^2 + levels[-1]^2), as `samplers.chain.start` takes it.
        terms: of the T - 1 steps, how many are evaluated for each example (see `choose`); None, or at least T - 1: each once.
    """
    steps = len(levels) - 1
    some = terms if terms and terms < steps else 0
    total = prior_term(x, levels[-1], data_std) + decoder_term(step, x, levels[0], normal(x, rng), decoder)
    for k in range(some or steps):
        if some:
            u = draws.uniform(len(x), rng=rng).to(x.device)
            index, weight = choose(levels, some, (k + u) / some)
        else:
            index, weight = torch.full((len(x),), k, device=x.device), levels.new_ones(len(x))
        total = total + weight * step_term(step, x, levels[index + 1], levels[index], normal(x, rng))
    return -total.to(x)
