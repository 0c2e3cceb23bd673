"""The names by which a command line chooses a sampler and the levels that it visits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from torch import Tensor

from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.samplers.ancestral import fixed_variance
from lightning_modules.diffusion.samplers.chain import Sampler
from lightning_modules.diffusion.samplers.consistency import multistep
from lightning_modules.diffusion.samplers.ddim import ddim
from lightning_modules.diffusion.samplers.dpm_solver import dpm_solver
from lightning_modules.diffusion.samplers.edm import heun
from lightning_modules.diffusion.samplers.langevin import annealed_langevin, predictor_corrector

SAMPLERS: Mapping[str, Sampler] = {
    "ancestral": fixed_variance(schedules.posterior),
    "ancestral-large": fixed_variance(schedules.forward),
    "ddim": ddim,
    "heun": heun,
    "churn": partial(heun, churn=40.0, churn_min=0.05, churn_max=50.0, churn_std=1.003),
    "dpm-solver": dpm_solver,
    "dpm-solver-sde": partial(dpm_solver, stochastic=True),
    "langevin": annealed_langevin,
    "predictor-corrector": predictor_corrector,
    "multistep": multistep,
}
"""Samplers with their papers' constants; churn has EDM's of ImageNet-64."""


def churned(sampler: Sampler | None, settings: Mapping[str, float]) -> Sampler:
    """EDM's sampler with other settings of churn.

    Raises:
        ValueError: the sampler is another one, a setting is negative or not a number, or S_min is above S_max.
    """
    if getattr(sampler, "func", sampler) is not heun:
        raise ValueError(
            "Only the samplers heun and churn add noise by churn: take one of them, or leave its settings out."
        )
    if wrong := next((name for name, value in settings.items() if not value >= 0), None):
        raise ValueError(f"{wrong} must be at least 0, not {settings[wrong]:g}.")
    made = partial(sampler, **settings)  # type: ignore[arg-type]  # heun, alone or with settings
    low, high = (made.keywords.get(name, default) for name, default in (("churn_min", 0.0), ("churn_max", math.inf)))
    if low > high:
        raise ValueError(f"Noise is added from churn_min {low:g} up to churn_max {high:g}: no level is between them.")
    return made


def ends(table: Tensor) -> tuple[float, float]:
    """The lowest and the highest level of a table."""
    return table.min().item(), table.max().item()


GRIDS: Mapping[str, Callable[[Tensor, int], Tensor]] = {
    "spaced": schedules.spaced,
    "trailing": schedules.trailing,
    "quadratic": schedules.quadratic,
    "glide": schedules.glide,
    "karras": lambda table, n: schedules.karras(n, *ends(table)),
    "geometric": lambda table, n: schedules.geometric(n, *ends(table)),
}
"""(table of levels [T] of the model, steps n) -> grid [n + 1]."""

Named = TypeVar("Named")


def named(what: str, name: str, among: Mapping[str, Named]) -> Named:
    """The entry of this name.

    Raises:
        ValueError: there is none; the message has all names.
    """
    if name not in among:
        raise ValueError(f"There is no {what} '{name}'; there are {', '.join(among)}.")
    return among[name]
