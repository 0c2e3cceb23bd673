"""Flow matching and rectified flow: regression on the velocity of straight paths from data to noise.

System: Flow matching
System: Rectified flow
Source: Lipman et al. 2023, arXiv:2210.02747, eq. 20 to 23; Liu et al. 2023, arXiv:2209.03003, eq. 1 and algorithm 1 (reflow);
Tong et al. 2024, arXiv:2302.00482, section 3.2 (pairs by optimal transport).
Differs: time t runs from the data (0) to the noise (1), and a path is followed in units of y = x_t / (1 - t), where it starts at
sigma = 10^4; Euler's steps in t are `ddim` on the levels t / (1 - t).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_modules.diffusion import coupling, preconditioning, schedules, weighting
from lightning_modules.diffusion.denoising import Bound, Denoising, Draw, Learn, by_label
from lightning_modules.diffusion.samplers.ddim import ddim
from lightning_modules.optim import Adam, Optim

EDGE = 1e-4
"""Times in training and sampling are in [EDGE, 1 - EDGE]: y is not defined at 1, nor the velocity's weight at 0."""


def uniform_time(u: Tensor) -> Tensor:
    """u [B] in [0, 1) -> levels [B] of times t that are uniform."""
    return schedules.from_flow_time(u.clamp(EDGE, 1 - EDGE))


def logit_normal_time(u: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """u [B] in [0, 1) -> levels [B] of times t whose logit is N(mean, std^2).

    Source: Esser et al. 2024, arXiv:2403.03206, section 3.1.
    """
    return schedules.log_normal(u, mean, std)


def straight(n: int) -> Tensor:
    """A grid [n + 1] of levels whose times are evenly spaced, from 1 - EDGE to 0, float64."""
    return schedules.from_flow_time(torch.linspace(1 - EDGE, 0, n + 1, dtype=torch.float64))


def flow_matching(
    net: nn.Module,
    shape: tuple[int, ...],
    *,
    levels: Callable[[Tensor], Tensor] = uniform_time,
    couple: coupling.Coupling = coupling.independent,
    steps: int = 50,
    bound_levels: int = 256,
    label_drop: float | None = None,
    optim: Optim = Adam(1e-3),  # frozen
) -> Denoising:
    """A model that predicts the velocity n - x0, sampled by Euler's method.

    Args:
        net: see `denoising.Net`; it is given the time t.
        shape: of an example.
        levels: law of the times in training.
        couple: the noise that each example is paired with: `coupling.independent`; `coupling.given` for pairs by optimal
            transport; `coupling.reflow` for the pairs of a trained flow.
        steps: of the sampler.
        bound_levels: levels of the bound on the log likelihood.
        label_drop: share of the labels that are hidden in training, for guidance; None: a model without labels.
        optim: of the network.
    """
    conditions, hide = by_label(label_drop)
    return Denoising(
        net,
        shape,
        level_input=schedules.flow_time,
        precondition=preconditioning.flow,
        learn=Learn(levels=levels, weight=weighting.flow, couple=couple, name="velocity_mse"),
        draw=Draw(sampler=ddim, grid=straight, steps=steps, data_std=0.0),
        bound=Bound(levels=schedules.karras(bound_levels, 0.002, 80.0)[:-1].flip(0)),
        conditions=conditions,
        hide=hide,
        optim=optim,
    )
