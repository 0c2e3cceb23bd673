"""Recipes of few-step models: progressive distillation and consistency models."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

from ray_jobs.recipe import Claim, Fit, Headline, UsageError, Variant, fit
from ray_jobs.recipe.measures import measuring
from ray_jobs.recipes.diffusion.shared import w2_ratios

if TYPE_CHECKING:
    from torch import nn

    from datamodules.labs.density2d import Density2D
    from lightning_modules.diffusion.denoising import Denoising
    from lightning_modules.staged import Staged

SALIMANS = Headline("Salimans & Ho 2022", arxiv="2202.00512")
SONG = Headline("Song et al. 2023", arxiv="2303.01469")
ICT = Headline("Song & Dhariwal 2024", arxiv="2310.14189")
STD = 0.71
"""Standard deviation of the ring and the grid in each direction."""


@fit(
    system="Progressive distillation", data="density2d", headline=SALIMANS, claim=Claim("w2_ratio_4", at_most=1.3),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)"}, steps=6000, batch=1024, lr=2e-3, warmup=100,
    grad_clip=1.0,
)  # fmt: skip
def pd_mixture2d(
    *, steps: int, density: str = "ring", width: int = 64, depth: int = 3, first: int = 32, halvings: int = 4
) -> Fit:
    """Progressive distillation on a mixture of Gaussians in the plane: a teacher, then students of half the steps each.

    Args:
        steps: a third for the teacher, the rest shared by the students.
        density: 'ring', 'grid' or 'pinwheel'.
        width: of the hidden layers.
        depth: residual blocks.
        first: steps of the teacher.
        halvings: students, each of half the steps of the one before.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.nets.mlp import ResidualMLP

    data = Density2D(name=density, mixture=True)
    net = partial(ResidualMLP, data.shape, width=width, depth=depth)
    model = halved(net, data.shape, steps, first=first, halvings=halvings, teacher=steps // 3)
    return Fit(model, data, of_every_student)  # type: ignore[arg-type]


def halved(
    net: Callable[[], nn.Module], shape: tuple[int, ...], steps: int, *, first: int, halvings: int, teacher: int
) -> Staged:
    """A teacher, then students, each of half the sampling steps of the one before.

    Args:
        net: builds the network of one of them.
        shape: of an example.
        steps: optimiser steps of all.
        first: sampling steps of the teacher.
        halvings: how many students.
        teacher: optimiser steps of the teacher; the students share the rest.

    Raises:
        UsageError: so many steps cannot be halved so often.
    """
    from lightning_modules.diffusion.models.progressive_distillation import diffusion, student_of
    from lightning_modules.staged import Stage, Staged, copy_weights

    if halvings < 1 or first % 2**halvings:
        raise UsageError(f"{first} steps cannot be halved {halvings} times: take first as a multiple of {2**halvings}.")
    models, names = [diffusion(net(), shape, steps=first)], ["teacher"]
    for k in range(1, halvings + 1):
        models.append(student_of(models[-1], net(), steps=first // 2**k))
        names.append(f"student{first // 2**k}")
    each = [teacher] + [(steps - teacher) // halvings] * halvings
    hands = [copy_weights((f"{a}.net", f"{b}.net")) for a, b in itertools.pairwise(names)]
    parts = zip(names, models, each, [*hands, None], strict=True)
    return Staged(tuple(Stage(*part) for part in parts))


def of_every_student(model: Staged, data: Density2D) -> dict[str, float]:
    """`of_steps` of the teacher and of each student, at its own number of steps."""
    return of_steps({stage.model.draw.steps: stage.model for stage in model.stages}, data)  # type: ignore[misc, union-attr]


def of_steps(models: Mapping[int, Denoising], data: Density2D) -> dict[str, float]:
    """`w2_ratios` of samples of each number of steps; component_share_error_N: as in `against_mixture`."""
    drawn, ratios = w2_ratios(models, data, measuring())
    return ratios | {f"component_share_error_{n}": data.density.coverage(x) for n, x in drawn.items()}


@fit(
    system="Consistency models", data="density2d", headline=SONG, claim=Claim("w2_ratio_1", at_most=1.5),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)"}, steps=6000, batch=1024, lr=2e-3, warmup=100,
    ema=0.998,
    variants={
        "training": Variant("density2d", Claim("w2_ratio_1", at_most=2.0), {"method": "training"}),
        "improved": Variant("density2d", Claim("w2_ratio_1", at_most=2.0), {"method": "improved"}, ICT),
    },
)  # fmt: skip
def consistency_mixture2d(
    *,
    steps: int,
    density: str = "ring",
    width: int = 64,
    depth: int = 3,
    method: Literal["distillation", "training", "improved"] = "distillation",
) -> Fit:
    """A consistency model on a mixture of Gaussians in the plane, which draws in one step.

    Args:
        steps: of distillation, half for the teacher.
        density: 'ring', 'grid' or 'pinwheel'.
        width: of the hidden layers.
        depth: residual blocks.
        method: 'distillation' of an EDM teacher (CD), 'training' without one (CT), or 'improved' training (iCT).
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.diffusion.models import consistency
    from lightning_modules.diffusion.models.edm import edm
    from lightning_modules.nets.mlp import ResidualMLP
    from lightning_modules.staged import Stage, Staged, copy_weights

    data = Density2D(name=density, mixture=True)
    net = ResidualMLP(data.shape, width=width, depth=depth)
    noise = consistency.Noise(STD, 0.01, 20.0)
    if method == "training":
        return Fit(consistency.consistency_training(net, data.shape, steps, noise=noise), data, of_few_steps)  # type: ignore[arg-type]
    if method == "improved":
        return Fit(consistency.improved_training(net, data.shape, steps, last=160, noise=noise), data, of_few_steps)  # type: ignore[arg-type]
    teacher = edm(
        ResidualMLP(data.shape, width=width, depth=depth),
        data.shape,
        data_std=noise.data_std,
        sigma_min=noise.sigma_min,
        sigma_max=noise.sigma_max,
    )
    student = consistency.consistency_distillation(net, data.shape, teacher.denoiser, levels=40, noise=noise)
    copy = copy_weights(("teacher.net", "student.net"), ("teacher.net", "student.target"))
    stages = (Stage("teacher", teacher, steps // 2, copy), Stage("student", student, steps - steps // 2))
    return Fit(Staged(stages), data, of_the_student)  # type: ignore[arg-type]


def of_few_steps(model: Denoising, data: Density2D) -> dict[str, float]:
    """`of_steps` of 1, 2 and 4."""
    return of_steps(dict.fromkeys((1, 2, 4), model), data)


def of_the_student(model: Staged, data: Density2D) -> dict[str, float]:
    """`of_few_steps` of the last part."""
    return of_few_steps(model.last, data)  # type: ignore[arg-type]
