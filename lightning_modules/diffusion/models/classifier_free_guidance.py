"""Classifier-free guidance: one network, with and without labels, whose difference leads its samples to a class.

System: Classifier-free guidance
Source: Ho & Salimans 2022, arXiv:2207.12598, algorithms 1 and 2, section 2 (levels and the variance of steps). Options: Kynkaanniemi et al.
2024, arXiv:2404.07724 (interval); Lin et al. 2024, arXiv:2305.08891, section 3.4 (rescaling).
Differs: `reach`, the largest logarithm of the signal-to-noise ratio, is an argument; the network is given the logarithm of the level.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from lightning_modules import objectives
from lightning_modules.diffusion import guidance, preconditioning, schedules, weighting
from lightning_modules.diffusion.bound import Decoder
from lightning_modules.diffusion.denoising import Bound, Denoising, Draw, Learn, by_label
from lightning_modules.optim import Adam, Optim


def classifier_free_guidance(
    net: nn.Module,
    shape: tuple[int, ...],
    *,
    drop: float = 0.1,
    reach: float = 20.0,
    steps: int = 256,
    share: float = 0.3,
    interval: tuple[float, float] | None = None,
    rescale: float = 0.0,
    clip: bool = False,
    decoder: Decoder = objectives.gaussian_log_prob,
    optim: Optim = Adam(1e-4),  # frozen
) -> Denoising:
    """A model of labels that are hidden for a share of the examples, at levels in continuous time.

    Its strength w of guidance is the paper's: 0 is none. Tools that name 1 + w the scale count from 1.

    Args:
        net: with classes, see `denoising.Net`; it predicts the noise.
        shape: of an example.
        drop: p_uncond, the share of the examples whose label is hidden in training.
        reach: the logarithm of the signal-to-noise ratio is in [-reach, reach]; where it is large and estimates of x0 are not clipped, an
            error of the noise at the highest level counts exp(reach / 2) times in the first estimate.
        steps: of the sampler.
        share: v, of the larger variance in the logarithm of each reverse step's.
        interval: levels low < sigma <= high in which alone samples are guided; None: all.
        rescale: share of the rescaling to the standard deviation of the estimate with labels, 0 to 1.
        clip: whether estimates of x0 stay in [-1, 1] when sampling.
        decoder: log probability of x0 at the end of the bound.
        optim: of the network.

    Raises:
        ValueError: `drop` is not in (0, 1), `rescale` not in [0, 1], or the interval is empty.
    """
    if not 0 < drop < 1:
        raise ValueError(
            f"Guidance needs labels that are hidden for a share of the examples between 0 and 1, not {drop}."
        )
    conditions, hide = by_label(drop)
    variance, grid = partial(schedules.between, share=share), partial(schedules.cosine_grid, reach=reach)
    return Denoising(
        net,
        shape,
        level_input=torch.log,
        precondition=preconditioning.noise,
        learn=Learn(levels=partial(at_any_time, reach=reach), weight=weighting.simple, name="noise_mse"),
        draw=Draw(
            sampler=None,
            grid=grid,
            steps=steps,
            data_std=1.0,
            clip=(-1.0, 1.0) if clip else None,
            guide=guide(interval, rescale),
        ),
        bound=Bound(levels=grid(steps)[:-1].flip(0), variance=variance, decoder=decoder),
        conditions=conditions,
        hide=hide,
        optim=optim,
    )


def at_any_time(u: Tensor, reach: float) -> Tensor:
    """u [B] in [0, 1) -> levels [B] at the times u of `schedules.cosine_time`, float64."""
    return schedules.cosine_time(u.double(), reach)


def guide(interval: tuple[float, float] | None = None, rescale: float = 0.0) -> guidance.Guide:
    """Guidance by (1 + w) D_cond - w D_null, rescaled for a share, within an interval of levels.

    Raises:
        ValueError: `rescale` is not in [0, 1], or the interval is empty.
    """
    if not 0 <= rescale <= 1:
        raise ValueError(f"The share of rescaling must be in [0, 1], not {rescale}.")
    made = guidance.rescaled(rescale) if rescale else guidance.guided
    if interval is None:
        return made
    if not 0 <= interval[0] < interval[1]:
        raise ValueError(
            f"Levels from {interval[0]:g} to {interval[1]:g} are no interval: the first must be the smaller."
        )
    return guidance.in_interval(*interval, made)
