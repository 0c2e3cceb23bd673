"""Noise levels, prediction and variance of a diffusion model as a scheduler's configuration of diffusers, and the reverse.

Source: diffusers 0.42.1, `schedulers/scheduling_ddpm.py`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_modules.diffusion import preconditioning, schedules
from lightning_modules.diffusion.denoising import Denoising
from lightning_modules.diffusion.models.ddpm import ddpm
from lightning_modules.diffusion.models.improved_ddpm import ImprovedDDPM
from lightning_modules.diffusion.preconditioning import Preconditioning
from lightning_modules.exchange.config import MOST, Config, brief, count, demand, real
from lightning_modules.nets.dit import DiT
from lightning_modules.nets.unet import UNet

CLASS = "DDPMScheduler"
WITH_BETAS = (
    "DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler", "DEISMultistepScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler", "LMSDiscreteScheduler",
)  # fmt: skip
"""Schedulers whose configuration gives the betas of one table."""
PREDICTIONS: dict[str, Preconditioning] = {
    "epsilon": preconditioning.noise,
    "sample": preconditioning.clean,
    "v_prediction": preconditioning.velocity,
}
LABEL_DROP = 0.1
"""Share of the labels that are hidden while an imported network trains further, as for DiT."""
SMALL, LARGE, LEARNED = ("fixed_small", "fixed_small_log"), ("fixed_large", "fixed_large_log"), "learned_range"
"""Values of `variance_type`."""


# ---- from ours to theirs


def config_of(model: Denoising) -> dict[str, Any]:
    """The configuration of a DDPMScheduler that samples the same model.

    Raises:
        ValueError: diffusers has no such scheduler; the sentence says why.
    """
    predicted = next((name for name, known in PREDICTIONS.items() if model.precondition is known), None)
    levels, learned = model.bound.levels, isinstance(model, ImprovedDDPM)
    if not given_the_index(model) or predicted is None or model.draw.data_std != 1:
        raise ValueError(
            "diffusers' networks are given the index of a noise level in a table, and predict the noise, x0 or v; this model's does "
            "not: train it with --diffusers, where the recipe has that setting."
        )
    if not learned and model.bound.variance not in (schedules.posterior, schedules.forward):
        raise ValueError("diffusers' schedulers have no such variance of the reverse steps.")
    large = model.bound.variance is schedules.forward
    low, high = model.draw.clip or (-1.0, 1.0)
    if low != -high:
        raise ValueError(f"diffusers' schedulers clip to one range on both sides of 0, not to {low:g} to {high:g}.")
    return {
        "num_train_timesteps": len(levels),
        **_betas(levels),
        "prediction_type": predicted,
        "variance_type": LEARNED if learned else LARGE[0] if large else SMALL[0],
        "clip_sample": model.draw.clip is not None,
        "clip_sample_range": high,
        "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": False,
        "thresholding": False,
    }


def given_the_index(model: Denoising) -> bool:
    """Whether the network is given the index of the level in the table of the bound."""
    how = model.level_input
    if not isinstance(how, partial) or how.func is not schedules.index_of:
        return False
    return torch.equal(how.keywords["levels"].double(), model.bound.levels.double())


def _betas(levels: Tensor) -> dict[str, Any]:
    """The betas of a table: two ends where they rise linearly, else all of them."""
    keep = 1 / (1 + levels.double().cpu() ** 2)
    betas = 1 - keep / torch.cat([keep.new_ones(1), keep[:-1]])
    if torch.allclose(betas, torch.linspace(betas[0], betas[-1], len(betas), dtype=betas.dtype), rtol=0, atol=1e-9):
        ends = {"beta_start": round(betas[0].item(), 12), "beta_end": round(betas[-1].item(), 12)}
        return {"beta_schedule": "linear", **ends, "trained_betas": None}
    return {"trained_betas": betas.tolist()}


# ---- from theirs to ours


class Schedule(NamedTuple):
    """What a configuration says."""

    levels: Tensor
    predict: Preconditioning
    variance: str
    clip: float | None
    """The range of x0 on both sides of 0; None: any."""


def read(config: Config) -> Schedule:
    """A configuration, checked.

    Raises:
        ValueError: our models cannot express it; the sentence says why.
    """
    if config.get("_class_name") not in WITH_BETAS:
        raise ValueError(
            f"The scheduler {brief(config.get('_class_name'))} is not known; known are {', '.join(WITH_BETAS)}."
        )
    demand(config, {"rescale_betas_zero_snr": False, "thresholding": False, "prediction_type": tuple(PREDICTIONS)})
    variance = config.get("variance_type", SMALL[0])
    if variance not in (*SMALL, *LARGE, LEARNED):
        raise ValueError(
            f"Our models have no variance_type {brief(variance)}: known are {', '.join((*SMALL, *LARGE, LEARNED))}."
        )
    clip = config.get("clip_sample", True)
    if not isinstance(clip, bool):
        raise ValueError(f"The configuration's clip_sample must be true or false, not {brief(clip)}.")
    reach = real(config, "clip_sample_range", 1.0, 1e-6, 1e6)
    levels = schedules.from_betas(betas_of(config))
    return Schedule(levels, PREDICTIONS[config.get("prediction_type", "epsilon")], variance, reach if clip else None)


def betas_of(config: Config) -> Tensor:
    """The betas [T] of a configuration, float64.

    Raises:
        ValueError: they are no known ones.
    """
    steps = count(config, "num_train_timesteps", 1000)
    if (given := config.get("trained_betas")) is not None:
        numbers = isinstance(given, list) and all(type(b) in (int, float) for b in given)
        if not numbers or len(given) != steps or steps > MOST:
            raise ValueError(f"The configuration's trained_betas must be {steps} numbers.")
        return torch.tensor(given, dtype=torch.float64)
    demand(config, {"beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2")})
    kind = config.get("beta_schedule", "linear")
    if kind == "squaredcos_cap_v2":
        levels = schedules.cosine(steps)
        keep = 1 / (1 + levels**2)
        return 1 - keep / torch.cat([keep.new_ones(1), keep[:-1]])
    low, high = real(config, "beta_start", 1e-4, 0.0, 1.0), real(config, "beta_end", 0.02, 0.0, 1.0)
    if kind == "scaled_linear":
        return torch.linspace(low**0.5, high**0.5, steps, dtype=torch.float64) ** 2
    return torch.linspace(low, high, steps, dtype=torch.float64)


def model_of(net: UNet | DiT, shape: tuple[int, ...], outputs: int, config: Config) -> Denoising:
    """Our model of a network that is given the index of the level.

    Args:
        net: see `denoising.Net`.
        shape: of an example.
        outputs: how often the network's output has the channels of an example.
        config: of the scheduler.

    Raises:
        ValueError: our models cannot express it; the sentence says why.
    """
    levels, predict, variance, clip = read(config)
    drop = LABEL_DROP if net.condition.classes else None
    index = partial(schedules.index_of, levels=levels)
    learned = variance == LEARNED
    if outputs != (2 if learned else 1):
        needed = "twice" if learned else "as many as"
        raise ValueError(
            f"With the variance_type {variance} a network answers {needed} the channels of an image; this one has {outputs} times."
        )
    if learned:
        if predict is not preconditioning.noise:
            raise ValueError("With a learned variance our networks predict the noise (prediction_type 'epsilon').")
        model: Denoising = ImprovedDDPM(net, shape, levels=levels, level_input=index, label_drop=drop)
    else:
        fixed = schedules.forward if variance in LARGE else schedules.posterior
        model = ddpm(net, shape, levels=levels, variance=fixed, level_input=index, label_drop=drop)
    model.precondition = predict
    model.draw = replace(model.draw, clip=None if clip is None else (-clip, clip))
    return model
