"""Noise-conditional score networks: score matching at a few levels of noise, sampled by annealed Langevin dynamics.

System: NCSN
Source: Song & Ermon 2019, arXiv:1907.05600, eq. 5 and 6, algorithm 1.
Differs: the loss is the mean over dimensions, without the factor 1/2; the network is given the logarithm of the level in place of its
index; sampling starts from N(0, sigma_max^2) around 0, not from uniform noise, and ends with a denoising step (see `samplers.langevin`).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from lightning_modules.diffusion import preconditioning, schedules, weighting
from lightning_modules.diffusion.denoising import Bound, Denoising, Draw, Learn, by_label
from lightning_modules.diffusion.samplers.langevin import annealed_langevin
from lightning_modules.optim import Adam, Optim


def ncsn(
    net: nn.Module,
    shape: tuple[int, ...],
    *,
    levels: int = 10,
    sigma_min: float = 0.02,
    sigma_max: float = 2.0,
    repeats: int = 100,
    step_size: float = 0.2,
    label_drop: float | None = None,
    optim: Optim = Adam(1e-3),  # frozen
) -> Denoising:
    """A model that predicts the score, times sigma, at levels of one ratio.

    Args:
        net: of an input that is not scaled, see `denoising.Net`.
        shape: of an example.
        levels: L.
        sigma_min, sigma_max: sigma_L and sigma_1, twice the paper's, whose data are in [0, 1] and ours in [-1, 1].
        repeats: T, Langevin steps at each level.
        step_size: of Langevin steps, epsilon / sigma_L^2.
        label_drop: share of the labels that are hidden in training, for guidance; None: a model without labels.
        optim: of the network.
    """

    def grid(n: int) -> Tensor:
        if n != levels:
            raise ValueError(
                f"Annealed Langevin dynamics visits all {levels} levels of this model: leave the steps out."
            )
        return schedules.geometric(levels, sigma_min, sigma_max)

    table, (conditions, hide) = grid(levels)[:-1].flip(0), by_label(label_drop)
    return Denoising(
        net,
        shape,
        level_input=torch.log,
        precondition=preconditioning.score,
        learn=Learn(levels=partial(schedules.discrete, levels=table), weight=weighting.simple, name="score_matching"),
        draw=Draw(
            sampler=partial(annealed_langevin, repeats=repeats, step_size=step_size),
            grid=grid,
            steps=levels,
            data_std=0.0,
        ),
        bound=Bound(levels=table),
        conditions=conditions,
        hide=hide,
        optim=optim,
    )
