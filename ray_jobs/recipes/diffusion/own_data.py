"""Systems of diffusion by their own names, on a user's data: `reprise train edm --data photos/`, `reprise train ddpm --data mnist`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ray_jobs.recipe import Fit, Headline, Location, UsageError, fit
from ray_jobs.recipe.measures import likeness
from ray_jobs.recipe.ranges import Count, Decay, Whole
from ray_jobs.recipes.diffusion.ddpm import linear
from ray_jobs.recipes.diffusion.distillation import halved
from ray_jobs.recipes.diffusion.improved_ddpm import Objective
from ray_jobs.recipes.diffusion.shared import Backbone, image_net, level_input

if TYPE_CHECKING:
    from torch import nn

    from datamodules.base import Data
    from lightning_modules.diffusion.bound import Decoder
    from lightning_modules.diffusion.denoising import Denoising

OPTIONS: dict[str, Any] = {
    "data": "", "steps": 20_000, "batch": 64, "lr": 2e-4, "warmup": 500, "ema": 0.999, "grad_clip": 1.0, "log_every": 50,
}  # fmt: skip
"""Options of a training on a user's data."""
STD = {True: 0.5, False: 1.0}
"""Standard deviation that data are taken to have: of images, grey levels in [-1, 1], and of vectors, standardised columns of a table."""


def opened(data: str, size: int, drop: float = 0.0) -> Data:
    """The data of a word, with their labels where a share `drop` of these is to be hidden.

    Raises:
        UsageError: labels are wanted, and the data have none.
    """
    from datamodules.readers.own import read

    found = read(data, size=size, label="label" if drop else "")
    if drop and not found.classes:
        raise UsageError(
            f"--drop {drop:g} hides labels in training, but '{data}' has none: leave it out, or give images in a directory for "
            "each class, parquet files with a column 'label', IDX files, digits, shapes, mnist, fashion_mnist, cifar10 or imagenet64."
        )
    return found


def network(
    data: Data,
    kind: Backbone,
    width: int,
    dropout: float,
    *,
    drop: float = 0.0,
    outputs: int = 1,
    diffusers: bool = False,
) -> nn.Module:
    """The network of a denoiser of these data: of images by its kind, of vectors a multilayer perceptron.

    Raises:
        UsageError: an option of images is given for vectors.
        ValueError: images of this size do not fit the network.
    """
    from lightning_modules.nets.mlp import ResidualMLP

    classes = data.classes if drop else 0
    if of_images(data):
        return image_net(
            kind, data, width, multiples=(1, 2), head=width, depth=8, dropout=dropout, outputs=outputs, classes=classes,
            diffusers=diffusers,
        )  # fmt: skip
    for option, given in (("net dit", kind == "dit"), (f"dropout {dropout:g}", dropout), ("diffusers", diffusers)):
        if given:
            raise UsageError(
                f"--{option} is for images, but an example of this data has the shape {data.shape}: leave it out."
            )
    return ResidualMLP(data.shape, width=width, depth=3, outputs=outputs, classes=classes)


def of_images(data: Data) -> bool:
    """Whether the examples are images [C, H, W]."""
    return len(data.shape) == 3


def decoder_of(data: Data) -> Decoder:
    """The decoder of grey levels, or of continuous data."""
    from lightning_modules.objectives import discretised_gaussian_log_prob, gaussian_log_prob

    return partial(discretised_gaussian_log_prob, levels=data.levels) if data.levels else gaussian_log_prob


def likeness_of(data: Data) -> Any:
    """What measures samples of these data: `likeness`, of no more than 64 images, which take long to draw."""
    return partial(likeness, n=64) if of_images(data) else likeness


def bound(model: Denoising, data: Data) -> dict[str, float]:
    """The bound on at most 256 held-out examples in bits per dimension, 50 of its terms each; none for continuous data."""
    import torch

    if not data.levels:
        return {}
    x, rng = data.test(256)["x"].to(model.device), torch.Generator().manual_seed(0)
    bits = torch.cat(
        [model.bits_per_dim(part, terms=min(50, len(model.bound.levels)), rng=rng) for part in x.split(64)]
    )
    return {"bits_per_dim": bits.mean().item()}


@fit(system="DDPM", headline=Headline("Ho et al. 2020", arxiv="2006.11239"), **OPTIONS)
def ddpm(
    *,
    data: Location = "",
    size: int = 0,
    net: Backbone = "unet",
    width: int = 64,
    levels: Count = 1000,
    dropout: Decay = 0.0,
    drop: Decay = 0.0,
    diffusers: bool = False,
) -> Fit:
    """DDPM on images, or on a table.

    Args:
        data: a folder of images, a table, or the name of a set or density.
        size: of images their sides, of a density its dimensions.
        net: which network of images, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution, twice as many below; a third of the features of a DiT; of vectors, units of
            each hidden layer.
        levels: noise levels in training and sampling.
        dropout: in the blocks, of images.
        drop: share of the labels that are hidden in training, so that samples can be guided by labels; 0: a model without labels.
        diffusers: whether the network of images is one that diffusers has, so that `reprise export` can write it.
    """
    from lightning_modules.diffusion.models.ddpm import ddpm as build

    found, table = opened(data, size, drop), linear(levels)
    model = build(
        network(found, net, width, dropout, drop=drop, diffusers=diffusers), found.shape, levels=table,
        decoder=decoder_of(found), clip=of_images(found), label_drop=drop or None, level_input=level_input(table, diffusers),
    )  # fmt: skip
    return Fit(model, found, bound)  # type: ignore[arg-type]


@fit(system="Improved DDPM", headline=Headline("Nichol & Dhariwal 2021", arxiv="2102.09672"), **OPTIONS)
def improved_ddpm(
    *,
    data: Location = "",
    size: int = 0,
    net: Backbone = "unet",
    width: int = 64,
    levels: Count = 1000,
    objective: Objective = "hybrid",
    dropout: Decay = 0.0,
    drop: Decay = 0.0,
) -> Fit:
    """DDPM with a learned variance on images, with the cosine schedule, or on a table.

    The linear schedule ends at lower noise levels, where estimates of a table's rows, which are not clipped, err less.

    Args:
        data: a folder of images, a table, or the name of a set or density.
        size: of images their sides, of a density its dimensions.
        net: which network of images, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution, twice as many below; a third of the features of a DiT; of vectors, units of
            each hidden layer.
        levels: noise levels in training and sampling.
        objective: 'hybrid', for samples; or the resampled 'bound' alone, for the likelihood.
        dropout: in the blocks, of images.
        drop: share of the labels that are hidden in training, so that samples can be guided by labels; 0: a model without labels.
    """
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.improved_ddpm import ImprovedDDPM

    if levels < 2:
        raise UsageError(
            "--levels of improved_ddpm must be at least 2: the variance of the first step is that of the second."
        )
    found = opened(data, size, drop)
    table = schedules.cosine(levels) if of_images(found) else linear(levels)
    model = ImprovedDDPM(
        network(found, net, width, dropout, drop=drop, outputs=2), found.shape, levels=table,
        objective=objective, decoder=decoder_of(found), clip=of_images(found), label_drop=drop or None,
    )  # fmt: skip
    return Fit(model, found, bound)  # type: ignore[arg-type]


@fit(system="EDM", headline=Headline("Karras et al. 2022", arxiv="2206.00364"), **OPTIONS)
def edm(
    *,
    data: Location = "",
    size: int = 0,
    net: Backbone = "unet",
    width: int = 64,
    dropout: Decay = 0.0,
    drop: Decay = 0.0,
) -> Fit:
    """EDM on images, or on a table, sampled in 18 steps.

    Args:
        data: a folder of images, a table, or the name of a set or density.
        size: of images their sides, of a density its dimensions.
        net: which network of images, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution, twice as many below; a third of the features of a DiT; of vectors, units of
            each hidden layer.
        dropout: in the blocks, of images.
        drop: share of the labels that are hidden in training, so that samples can be guided by labels; 0: a model without labels.
    """
    from lightning_modules.diffusion.models.edm import edm as build

    found = opened(data, size, drop)
    made = network(found, net, width, dropout, drop=drop)
    model = build(made, found.shape, data_std=STD[of_images(found)], label_drop=drop or None)
    return Fit(model, found, likeness_of(found))


@fit(system="Flow matching", headline=Headline("Lipman et al. 2023", arxiv="2210.02747"), **OPTIONS)
def flow_matching(
    *,
    data: Location = "",
    size: int = 0,
    net: Backbone = "unet",
    width: int = 64,
    transport: bool = False,
    dropout: Decay = 0.0,
    drop: Decay = 0.0,
) -> Fit:
    """Flow matching on images, or on a table, sampled in 50 steps.

    Args:
        data: a folder of images, a table, or the name of a set or density.
        size: of images their sides, of a density its dimensions.
        net: which network of images, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution, twice as many below; a third of the features of a DiT; of vectors, units of
            each hidden layer.
        transport: whether noise is paired with examples by optimal transport within each global batch.
        dropout: in the blocks, of images.
        drop: share of the labels that are hidden in training, so that samples can be guided by labels; 0: a model without labels.
    """
    from datamodules.transport import Transported
    from lightning_modules.diffusion import coupling
    from lightning_modules.diffusion.models.flow_matching import flow_matching as build

    found = opened(data, size, drop)
    found.paired = Transported if transport else None
    couple = coupling.given if transport else coupling.independent
    made = network(found, net, width, dropout, drop=drop)
    return Fit(build(made, found.shape, couple=couple, label_drop=drop or None), found, likeness_of(found))


@fit(system="NCSN", headline=Headline("Song & Ermon 2019", arxiv="1907.05600"), **OPTIONS)
def ncsn(
    *,
    data: Location = "",
    size: int = 0,
    net: Backbone = "unet",
    width: int = 64,
    levels: Count = 10,
    repeats: Count = 100,
    dropout: Decay = 0.0,
    drop: Decay = 0.0,
) -> Fit:
    """A noise-conditional score network on images, or on a table, sampled by annealed Langevin dynamics.

    Args:
        data: a folder of images, a table, or the name of a set or density.
        size: of images their sides, of a density its dimensions.
        net: which network of images, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution, twice as many below; a third of the features of a DiT; of vectors, units of
            each hidden layer.
        levels: of noise.
        repeats: Langevin steps at each level.
        dropout: in the blocks, of images.
        drop: share of the labels that are hidden in training, so that samples can be guided by labels; 0: a model without labels.
    """
    from lightning_modules.diffusion.models.ncsn import ncsn as build

    found = opened(data, size, drop)
    made = network(found, net, width, dropout, drop=drop)
    model = build(made, found.shape, levels=levels, repeats=repeats, label_drop=drop or None)
    return Fit(model, found, likeness_of(found))


@fit(
    system="Progressive distillation", headline=Headline("Salimans & Ho 2022", arxiv="2202.00512"),
    needs={"teacher": "progressive_distillation"}, **OPTIONS | {"steps": 60_000},
)  # fmt: skip
def progressive_distillation(
    *,
    steps: int,
    data: Location = "",
    size: int = 0,
    net: Backbone = "unet",
    width: int = 64,
    first: Count = 64,
    halvings: Whole = 4,
    teacher_steps: Whole | None = None,
    dropout: Decay = 0.0,
) -> Fit:
    """A diffusion on images, or on a table, then students that draw in half the steps each, of which the last remains.

    With `--halvings 0` the teacher alone is trained; `--teacher_steps 0 --start teacher=RUN` takes it from there.

    Args:
        steps: of the teacher and of all students together.
        data: a folder of images, a table, or the name of a set or density.
        size: of images their sides, of a density its dimensions.
        net: which network of images, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution, twice as many below; a third of the features of a DiT; of vectors, units of
            each hidden layer.
        first: sampling steps of the teacher.
        halvings: students, each of half the sampling steps of the one before.
        teacher_steps: optimiser steps of the teacher, a third by default; 0 where it comes from another run. The students share the rest.
        dropout: in the blocks, of images.
    """
    from lightning_modules.diffusion.models.progressive_distillation import diffusion

    found = opened(data, size)
    made = partial(network, found, net, width, dropout)
    if not halvings:
        return Fit(diffusion(made(), found.shape, steps=first), found, likeness_of(found))
    teacher = steps // 3 if teacher_steps is None else teacher_steps
    model = halved(made, found.shape, steps, first=first, halvings=halvings, teacher=teacher)
    return Fit(model, found, likeness_of(found))


@fit(system="Consistency models", headline=Headline("Song et al. 2023", arxiv="2303.01469"), **OPTIONS)
def consistency(
    *,
    steps: int,
    data: Location = "",
    size: int = 0,
    net: Backbone = "unet",
    width: int = 64,
    method: Literal["improved", "training"] = "improved",
    last: Count | None = None,
    dropout: Decay = 0.0,
) -> Fit:
    """A consistency model on images, or on a table, trained without a teacher, which draws in one step.

    Args:
        steps: over which the grid of noise levels becomes finer.
        data: a folder of images, a table, or the name of a set or density.
        size: of images their sides, of a density its dimensions.
        net: which network of images, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution, twice as many below; a third of the features of a DiT; of vectors, units of
            each hidden layer.
        method: 'improved' training (iCT), or 'training' with a target network (CT).
        last: intervals of the last grid, 1,280 by default and 150 with 'training'.
        dropout: in the blocks, of images.
    """
    from lightning_modules.diffusion.models.consistency import Noise, consistency_training, improved_training

    found = opened(data, size)
    build, usual = (improved_training, 1280) if method == "improved" else (consistency_training, 150)
    noise, made = Noise(STD[of_images(found)]), network(found, net, width, dropout)
    model = build(made, found.shape, steps, last=last or usual, noise=noise)
    return Fit(model, found, likeness_of(found))
