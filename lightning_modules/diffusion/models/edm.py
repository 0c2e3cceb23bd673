"""EDM: preconditioned denoising at log-normal noise levels, sampled by Heun's method on a grid of few levels.

System: EDM
Source: Karras et al. 2022, arXiv:2206.00364, table 1 (last column), algorithms 1 and 2.
Differs: the loss is a mean over dimensions, not a sum; the labels of the augmentation are embedded as the level is.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from lightning_modules.diffusion import preconditioning, schedules, weighting
from lightning_modules.diffusion.augmentation import Augmentation
from lightning_modules.diffusion.denoising import Bound, Denoising, Draw, Learn, by_caption, by_label
from lightning_modules.diffusion.samplers.edm import heun
from lightning_modules.optim import Adam, Optim


def edm(
    net: nn.Module,
    shape: tuple[int, ...],
    *,
    data_std: float = 0.5,
    mean: float = -1.2,
    std: float = 1.2,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    steps: int = 18,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = float("inf"),
    churn_std: float = 1.0,
    bound_levels: int = 256,
    label_drop: float | None = None,
    caption_drop: float | None = None,
    augment: float = 0.0,
    optim: Optim = Adam(1e-3),  # frozen
) -> Denoising:
    """A model whose network has inputs and targets of unit variance at every level.

    Args:
        net: of an input of about unit variance, see `denoising.Net`; it is given log(sigma) / 4.
        shape: of an example.
        data_std: sigma_data, the standard deviation of the data.
        mean, std: P_mean and P_std, of the logarithm of the levels in training.
        sigma_min, sigma_max, rho: of the sampler's grid.
        steps: of the sampler; it evaluates the network 2 steps - 1 times.
        churn, churn_min, churn_max, churn_std: see `samplers.edm.heun`.
        bound_levels: levels of the bound on the log likelihood.
        label_drop: share of the labels that are hidden in training, for guidance; None: a model without labels.
        caption_drop: the same of captions, which are then empty; None: a model without captions.
        augment: probability of each change of the images in training, see `augmentation`; the network then takes
            `augmentation.LABELS` numbers. 0: none.
        optim: of the network.
    """
    conditions, hide = by_label(label_drop) if caption_drop is None else by_caption(caption_drop)
    grid = partial(schedules.karras, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    noise = partial(heun, churn=churn, churn_min=churn_min, churn_max=churn_max, churn_std=churn_std)
    return Denoising(
        net,
        shape,
        level_input=preconditioning.quarter_log,
        precondition=partial(preconditioning.edm, data_std=data_std),
        learn=Learn(
            levels=partial(schedules.log_normal, mean=mean, std=std),
            weight=partial(weighting.edm, data_std=data_std),
            augment=Augmentation(augment) if augment else None,
            name="denoising",
        ),
        draw=Draw(sampler=noise if churn else heun, grid=grid, steps=steps, data_std=0.0),
        bound=Bound(levels=grid(bound_levels)[:-1].flip(0)),
        conditions=conditions,
        hide=hide,
        optim=optim,
    )
