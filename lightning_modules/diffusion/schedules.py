"""Noise levels: what to train on, how much a step forgets, and where to step when sampling.

Everywhere in this package a noised example is y = x0 + sigma n with n ~ N(0, I) and a level sigma >= 0. The variance-preserving
notation of Ho et al. is the same thing scaled: x_t = y / sqrt(1 + sigma^2), alpha-bar_t = 1 / (1 + sigma^2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def linear(steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> Tensor:
    """Levels [steps], ascending, float64, of betas that rise linearly.

    Source: Ho et al. 2020, arXiv:2006.11239, section 4.
    """
    return from_betas(torch.linspace(beta_min, beta_max, steps, dtype=torch.float64))


def scaled_linear(steps: int = 1000, beta_min: float = 0.0015, beta_max: float = 0.0195) -> Tensor:
    """Levels [steps], ascending, float64, of betas whose roots rise linearly; by default those of the latent diffusion of ImageNet.

    Fewer steps have larger betas, so that the last level stays about the same.

    Source: the code of Rombach et al. 2022, arXiv:2112.10752.
    """
    root = torch.linspace(beta_min**0.5, beta_max**0.5, steps, dtype=torch.float64)
    return from_betas(root.square() * 1000 / steps)


def cosine(steps: int = 1000, offset: float = 0.008, beta_max: float = 0.999) -> Tensor:
    """Levels [steps], ascending, float64, of the cosine schedule.

    Source: Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17.
    """
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    keep = torch.cos((u + offset) / (1 + offset) * math.pi / 2).square()
    return from_betas((1 - keep[1:] / keep[:-1]).clamp(max=beta_max))


def from_betas(beta: Tensor) -> Tensor:
    """Levels [T] of the forward process whose t-th step adds variance beta[t].

    Raises:
        ValueError: a beta is not between 0 and 1.
    """
    if not ((beta > 0) & (beta < 1)).all():
        low, high = beta.min().item(), beta.max().item()
        raise ValueError(
            f"The betas of {len(beta)} levels reach from {low:.3g} to {high:.3g}: "
            f"take more levels, so that all are below 1."
        )
    keep = torch.cumprod(1 - beta, 0)
    return ((1 - keep) / keep).sqrt()


def discrete(u: Tensor, levels: Tensor) -> Tensor:
    """u [B] in [0, 1) -> uniformly chosen entries [B] of the table `levels` [T], on the device of u."""
    return levels.to(u.device)[(u * len(levels)).long()]


def log_normal(u: Tensor, mean: float = -1.2, std: float = 1.2) -> Tensor:
    """u [B] in [0, 1) -> levels [B] whose logarithm is N(mean, std^2).

    Source: Karras et al. 2022, arXiv:2206.00364, table 1.
    """
    return (mean + std * torch.special.ndtri(u.clamp(1e-7, 1 - 1e-7))).exp()


def log_uniform(u: Tensor, low: float, high: float) -> Tensor:
    """u [B] in [0, 1) -> levels [B] in [low, high], uniform in their logarithm."""
    return low * (high / low) ** u


def cosine_time(t: Tensor, reach: float = 20.0) -> Tensor:
    """Time t in [0, 1] -> level tan(a t + b), whose log signal-to-noise ratio falls from `reach` to -reach.

    Source: Salimans & Ho 2022, arXiv:2202.00512, section 2; Kingma et al. 2021, arXiv:2107.00630.
    """
    low, high = math.atan(math.exp(-reach / 2)), math.atan(math.exp(reach / 2))
    return torch.tan(low + t * (high - low))


def from_cosine_time(sigma: Tensor, reach: float = 20.0) -> Tensor:
    """The inverse of `cosine_time`."""
    low, high = math.atan(math.exp(-reach / 2)), math.atan(math.exp(reach / 2))
    return (torch.atan(sigma) - low) / (high - low)


def cosine_grid(n: int, reach: float = 20.0) -> Tensor:
    """A grid [n + 1] of levels at the times 1, 1 - 1 / n ... 1 / n of `cosine_time`, float64; then 0."""
    levels = cosine_time(torch.arange(n, 0, -1, dtype=torch.float64) / n, reach)
    return torch.cat([levels, levels.new_zeros(1)])


def index_of(sigma: Tensor, levels: Tensor) -> Tensor:
    """The index [B] of levels sigma [B] in a table [T], ascending; between two entries it is linear in log sigma.

    A level input of networks, as DDPM, ADM, DiT and diffusers have it: 0 is the lowest level. Outside of the table it is 0 or T - 1.
    """
    logs, log = levels.to(sigma.device).double().log(), sigma.double().log()
    above = torch.searchsorted(logs, log).clamp(1, max(1, len(logs) - 1)).clamp(max=len(logs) - 1)
    low, high = logs[(above - 1).clamp(min=0)], logs[above]
    index = above - torch.where(high > low, (high - log) / (high - low), 0.0)
    near = index.round()  # an entry's own index is exact, although sigma is rounded
    return torch.where((index - near).abs() < 1e-3, near, index).clamp(0, len(logs) - 1).to(sigma)


def flow_time(sigma: Tensor) -> Tensor:
    """Level sigma -> time t in [0, 1) of flow matching, where x_t = (1 - t) x0 + t n is y scaled by 1 - t."""
    return sigma / (1 + sigma)


def from_flow_time(t: Tensor) -> Tensor:
    """Time t in [0, 1) of flow matching -> level sigma = t / (1 - t); a logit-normal time is a `log_normal` level."""
    return t / (1 - t)


def posterior(sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """Variance of the example at level sigma_next given that at level sigma > sigma_next and x0: the smaller fixed choice, beta-tilde.

    Source: Ho et al. 2020, eq. 7, in units of y.
    """
    return sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2


def forward(sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """The larger fixed choice, beta: the variance that the forward process adds from level sigma_next to sigma, in units of y.

    Source: Ho et al. 2020, section 3.2.
    """
    return (sigma**2 - sigma_next**2) * (1 + sigma_next**2) / (1 + sigma**2)


def between(sigma: Tensor, sigma_next: Tensor, share: float = 0.3) -> Tensor:
    """A variance between the two fixed choices: posterior^(1 - share) forward^share.

    Source: Ho & Salimans 2022, arXiv:2207.12598, section 2.
    """
    return posterior(sigma, sigma_next) ** (1 - share) * forward(sigma, sigma_next) ** share


def spaced(levels: Tensor, n: int) -> Tensor:
    """A grid [n + 1]: n entries of `levels` [T], evenly spaced by index from the last to the first, descending, then 0.

    Raises:
        ValueError: n is not in 1..T.
    """
    check_steps(levels, n)
    index = torch.linspace(len(levels) - 1, 0, n, device=levels.device).round().long()
    return pick(levels, index)


def trailing(levels: Tensor, n: int) -> Tensor:
    """A grid [n + 1]: every (T / n)-th entry of `levels` [T], counted from the last, descending, then 0.

    Source: Lin et al. 2024, arXiv:2305.08891, table 2.

    Raises:
        ValueError: n is not in 1..T.
    """
    check_steps(levels, n)
    t = len(levels)
    index = (t - torch.arange(n, dtype=torch.float64, device=levels.device) * t / n).round().long() - 1
    return pick(levels, index)


def quadratic(levels: Tensor, n: int, reach: float = 0.8, *, once: bool = False) -> Tensor:
    """A grid [n + 1]: entries of `levels` [T] whose indices grow as squares up to reach T, descending, then 0.

    Source: Song, Meng & Ermon 2021, arXiv:2010.02502, appendix D.2; the constant is that of the authors' code.

    Args:
        once: whether a level that comes several times is visited once, by a shorter grid, in place of an error. The authors' code
            visits it again, and a step from a level to itself changes nothing.

    Raises:
        ValueError: n is not in 1..T, or so large that an index comes twice.
    """
    check_steps(levels, n)
    root = torch.linspace((len(levels) * reach) ** 0.5, 0, n, dtype=torch.float64, device=levels.device)
    index = root.square().long().clamp(max=len(levels) - 1)
    if once:
        return pick(levels, index.unique().flip(0))
    if len(index.unique()) < n:
        raise ValueError(
            f"{n} quadratic steps of {len(levels)} noise levels visit a level twice: take at most about half as many as "
            f"sqrt({reach} T), or another grid."
        )
    return pick(levels, index)


def sections(size: int, counts: tuple[int, ...]) -> list[int]:
    """Indices, ascending, of entries of a table of `size`: counts[i] of them evenly spaced over the i-th of equal sections, ends included.

    Source: the code of Nichol & Dhariwal 2021, arXiv:2102.09672 (improved_diffusion/respace.py): the first sections have one
    entry more where the table does not divide.

    Raises:
        ValueError: a section has fewer entries than its count.
    """
    found, start = [], 0
    for i, count in enumerate(counts):
        length = size // len(counts) + (i < size % len(counts))
        if length < count:
            raise ValueError(
                f"A table of {size} levels has no {count} in each of {len(counts)} sections: take a longer one."
            )
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        found += [start + round(k * stride) for k in range(count)]
        start += length
    return found


def glide(levels: Tensor, n: int = 27) -> Tensor:
    """GLIDE's grid [28]: 10, 10, 3, 2 and 2 entries of the fifths of `levels` [T], T-3 in place of the last, descending, then 0.

    Source: Nichol et al. 2022, arXiv:2112.10741; the counts are those of the authors' code ("fast27").

    Raises:
        ValueError: n is not 27, or there are fewer than 50 levels.
    """
    if n != 27:
        raise ValueError(f"GLIDE's grid has 27 steps, not {n}: take that many, or another grid.")
    index = sections(len(levels), (10, 10, 3, 2, 2))
    index[-1] = len(levels) - 3
    return pick(levels, torch.tensor(index[::-1], device=levels.device))


def check_steps(levels: Tensor, n: int) -> None:
    """Refuse a number of steps that a table [T] of levels does not have.

    Raises:
        ValueError: n is not in 1..T.
    """
    if not 1 <= n <= len(levels):
        raise ValueError(f"Sampling in {n} steps is impossible: there are {len(levels)} noise levels, take 1 to that.")


def pick(levels: Tensor, index: Tensor) -> Tensor:
    """The grid of these entries of a table of levels, with 0 at its end."""
    return torch.cat([levels[index], levels.new_zeros(1)])


def geometric(n: int, sigma_min: float, sigma_max: float) -> Tensor:
    """A grid [n + 1] whose first n levels have one ratio, from sigma_max to sigma_min, float64; then 0.

    Source: Song & Ermon 2019, arXiv:1907.05600, section 4.
    """
    levels = torch.logspace(math.log(sigma_max), math.log(sigma_min), n, base=math.e, dtype=torch.float64)
    return torch.cat([levels, levels.new_zeros(1)])


def karras(n: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """A grid [n + 1], descending, float64, ending in 0.

    Source: Karras et al. 2022, eq. 5.
    """
    u = torch.linspace(0, 1, n, dtype=torch.float64)
    ends = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    levels = (ends[0] + u * (ends[1] - ends[0])) ** rho
    return torch.cat([levels, levels.new_zeros(1)])
