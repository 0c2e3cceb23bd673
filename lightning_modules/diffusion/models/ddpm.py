"""Denoising diffusion with the simple loss, ancestral sampling and the variational bound.

System: DDPM
Source: Ho et al. 2020, arXiv:2006.11239, eq. 14, algorithms 1 and 2, eq. 5.
Differs: the network is given the logarithm of the noise level in place of the step's index, unless `level_input` is
given; labels and guidance are options.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from lightning_modules import objectives
from lightning_modules.diffusion import preconditioning, schedules, weighting
from lightning_modules.diffusion.bound import Decoder
from lightning_modules.diffusion.denoising import Bound, Denoising, Draw, Learn, LevelInput, by_label
from lightning_modules.diffusion.samplers.ancestral import fixed_variance
from lightning_modules.diffusion.steps import Variance
from lightning_modules.optim import Adam, Optim


def ddpm(
    net: nn.Module,
    shape: tuple[int, ...],
    *,
    levels: Tensor,
    variance: Variance = schedules.posterior,
    decoder: Decoder = objectives.gaussian_log_prob,
    clip: bool = False,
    label_drop: float | None = None,
    level_input: LevelInput = torch.log,
    optim: Optim = Adam(2e-4),  # frozen
) -> Denoising:
    """A model that predicts the noise at the levels of a table.

    Args:
        net: of an input of about unit variance, see `denoising.Net`.
        shape: of an example.
        levels: table [T] of noise levels, ascending: `schedules.linear()`, `schedules.cosine()`.
        variance: of the reverse steps, `schedules.posterior` or `schedules.forward`.
        decoder: log probability of x0 at the end of the bound: `objectives.gaussian_log_prob` for continuous data,
            `objectives.discretised_gaussian_log_prob` for grey levels.
        clip: whether estimates of x0 stay in [-1, 1] when sampling.
        label_drop: share of the labels that are hidden in training, for guidance; None: a model without labels.
        level_input: what the network is given about the noise level: its logarithm, or `schedules.index_of` the table.
        optim: of the network.
    """
    table, (conditions, hide) = levels.double(), by_label(label_drop)
    return Denoising(
        net,
        shape,
        level_input=level_input,
        precondition=preconditioning.noise,
        learn=Learn(levels=partial(schedules.discrete, levels=table), weight=weighting.simple, name="noise_mse"),
        draw=Draw(
            sampler=fixed_variance(variance),
            grid=partial(schedules.spaced, table),
            steps=len(table),
            data_std=1.0,
            clip=(-1.0, 1.0) if clip else None,
        ),
        bound=Bound(levels=table, variance=variance, decoder=decoder),
        conditions=conditions,
        hide=hide,
        optim=optim,
    )
