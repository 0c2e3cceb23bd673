"""Recipes of cascaded diffusion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from ray_jobs.recipe import Claim, Fit, Headline, Location, UsageError, fit
from ray_jobs.recipe.measures import likeness, measuring
from ray_jobs.recipe.ranges import Count, Decay, NotNegative, Positive, Share, Whole
from ray_jobs.recipes.diffusion.shared import LEVELS, against_pairs, at_level, best_level

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.base import Data
    from datamodules.labs.shapes import Shapes
    from lightning_modules.diffusion.denoising import Denoising
    from lightning_modules.diffusion.models.cascade import Cascade

PAPER = Headline("Ho et al. 2021", arxiv="2106.15282")


@fit(
    system="Cascaded diffusion", data="gauss_pair", headline=PAPER, claim=Claim("noise_excess", at_most=0.03),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)"}, steps=5000, batch=512, lr=3e-3, warmup=100,
    ema=0.998,
)  # fmt: skip
def cascade_gauss_pair(
    *,
    steps: int,
    width: int = 128,
    depth: int = 2,
    size: int = 8,
    most: NotNegative = 2.0,
    power: Positive = 1.0,
    sample_steps: Count = 50,
) -> Fit:
    """A cascade on a known Gaussian and its means of 2 x 2 pixels: learned super-resolution against the exact posterior mean.

    Args:
        steps: a quarter for the base, the rest for the super-resolution model.
        width: of the hidden layers.
        depth: residual blocks.
        size: height and width of the large images.
        most: highest level of the noise of low-resolution images in training; at least 1, at which it is measured.
        power: above 1, low levels of that noise are more frequent in training.
        sample_steps: of the sampler of each stage.
    """
    from datamodules.labs.gauss_pair import GaussPair
    from lightning_modules.diffusion import preconditioning
    from lightning_modules.diffusion.models.cascade import Cascade, base, super_resolution
    from lightning_modules.nets.mlp import ResidualMLP
    from lightning_modules.staged import Stage

    if most < LEVELS[-1]:
        raise UsageError(f"--most of cascade_gauss_pair must be at least {LEVELS[-1]:g}, not {most:g}.")
    data = GaussPair(size=size)
    build = partial(
        base, precondition=partial(preconditioning.edm, data_std=0.5), reach=8.0, steps=sample_steps, clip=False
    )
    net = partial(ResidualMLP, width=width, depth=depth)
    large = build(net(data.shape, image=data.low_shape, numbers=1), data.shape)
    stages = (
        Stage("base", build(net(data.low_shape), data.low_shape), steps // 4),
        Stage("upsampler", super_resolution(large, 2, most=most, power=power), steps - steps // 4),
    )
    return Fit(Cascade(stages), data, against_pairs)  # type: ignore[arg-type]


@fit(
    system="Cascaded diffusion", data="shapes", headline=PAPER,
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(32,48,64)"}, steps=2000, batch=64, lr=2e-3, warmup=100,
    ema=0.995, grad_clip=1.0,
)  # fmt: skip
def cascade_shapes(
    *,
    steps: int,
    base_steps: Whole | None = None,
    width: int = 32,
    most: NotNegative = 2.0,
    drop: Decay = 0.5,
    sample_steps: Count = 12,
) -> Fit:
    """A cascade from 8 x 8 to 32 x 32 pixels on pictures of coloured shapes, whose kind is read off the pixels.

    Args:
        steps: of both stages.
        base_steps: of the base; a fifth by default, which leaves it imperfect.
        width: channels of both networks at their full resolution, twice as many at half of it.
        most: highest level of the noise of low-resolution images in training; at least 1, the highest that is tried in the end.
        drop: share of the pictures whose kind is hidden in training.
        sample_steps: of the sampler of each stage.
    """
    from datamodules.labs.shapes import Shapes
    from lightning_modules.diffusion import preconditioning, weighting
    from lightning_modules.diffusion.models.cascade import Cascade, base, super_resolution
    from lightning_modules.diffusion.samplers.ddim import ddim
    from lightning_modules.nets.unet import UNet
    from lightning_modules.staged import Stage

    if most < LEVELS[-1]:
        raise UsageError(f"--most of cascade_shapes must be at least {LEVELS[-1]:g}, not {most:g}.")
    data = Shapes()
    std = 0.79  # of the pixels
    build = partial(
        base, label_drop=drop, precondition=partial(preconditioning.edm, data_std=std), weight=partial(weighting.edm, data_std=std),
        reach=10.0, sampler=ddim, steps=sample_steps,
    )  # fmt: skip
    net = partial(UNet, 3, width=width, multiples=(1, 2), blocks=1, head=width, classes=data.classes)
    large = build(net(image=3, numbers=1, patch=4), data.shape)
    first = steps // 5 if base_steps is None else base_steps
    stages = (
        Stage("base", build(net(), (3, 8, 8)), first),
        Stage("upsampler", super_resolution(large, 4, most=most), steps - first),
    )
    return Fit(Cascade(stages), data, of_kinds)  # type: ignore[arg-type]


def of_kinds(model: Cascade, data: Shapes, *, n: int = 512) -> dict[str, float]:
    """How often the kind of a shape is read right.

    kind_given_low: in samples of the super-resolution model from true twins, without the kind itself; bilinear: in twins that are only
    made larger. accuracy_S: in samples of the cascade for a kind, at the noise level S of its low-resolution images; chosen_level: the
    best of these on other samples, accuracy_chosen: the share there, accuracy_gain: what it gains over no noise.
    """
    import torch

    from datamodules.labs.shapes import read
    from lightning_modules.conditions import Cond
    from lightning_modules.nets.embed import resized

    def right(x: Tensor, kind: Tensor) -> float:
        return (read(x.cpu()).attributes.kind == kind.cpu()).double().mean().item()

    rng, batch = measuring(), data.test(n)
    n = len(batch["x"])
    kind = torch.arange(n) % data.classes
    drawn = model.parts[1].sample(n, Cond(image=batch["low"].to(model.device)), rng=rng)
    score = partial(right, kind=kind)
    first, second = (at_level(model, model.parts[0].sample(n, kind, rng=rng), score, rng, kind) for _ in range(2))
    chosen, of = best_level(LEVELS, first, second)
    found = {
        "kind_given_low": right(drawn, batch["label"]),
        "bilinear": right(resized(batch["low"], *data.shape[1:]), batch["label"]),
    }
    found |= {f"accuracy_{s:g}": share for s, share in of.items()}
    return found | {"chosen_level": chosen, "accuracy_chosen": of[chosen], "accuracy_gain": of[chosen] - of[0.0]}


STAGES = ("base", "to64", "to256")
"""Of the cascade of ImageNet."""


@fit(
    system="Cascaded diffusion", data="ImageNet, 256x256",
    headline=Headline("Ho et al. 2021", arxiv="2106.15282", metric="FID", value=4.88, where="abstract"),
    space={"lr": "loguniform(3e-5,3e-4)"}, steps=1_600_000, batch=2048, ema=0.9999, num_workers=8, save_every=5000,
    log_every=100, needs=dict.fromkeys(STAGES, "cascade_imagenet"),
)  # fmt: skip
def cascade_imagenet(
    *,
    steps: int,
    stage: Literal["all", "base", "to64", "to256"] = "all",
    base_steps: Whole | None = None,
    to64_steps: Whole | None = None,
    size: int = 256,
    width: int = 256,
    levels: Count = 4000,
    most: NotNegative = 100.0,
    blur: Share = 0.5,
    level: NotNegative = 0.0,
    drop: Decay = 0.1,
    dropout: Decay = 0.1,
    sample_steps: Count = 100,
    checkpoint: bool = False,
    data_dir: Location = "",
    bf16: bool = False,
) -> Fit:
    """The cascade of ImageNet from 32 over 64 to 256 pixels at the paper's scale; needs GPUs.

    Each stage is a run of its own, as in the paper: `--stage base --steps 700000`, `--stage to64 --steps 400000` and
    `--stage to256 --steps 500000 --batch 1024`. `--base_steps 0 --to64_steps 0 --start base=RUN --start to64=RUN` trains the rest of
    the cascade with finished stages.

    Args:
        steps: of all stages.
        stage: the whole cascade, or one stage as a run of its own.
        base_steps: optimiser steps of the base; 7/16 by default, 0 where it comes from another run.
        to64_steps: optimiser steps of the first super-resolution model; 4/16 by default, 0 where it comes from another run.
        size: height and width of the largest images; those of the stages before are an eighth and a quarter of it.
        width: channels of the two smaller U-Nets at their full resolution; half of it for the largest.
        levels: of the base, on the cosine schedule.
        most: highest level of the noise of low-resolution images in training.
        blur: share of the low-resolution images of the last stage that are blurred in training.
        level: of the noise of low-resolution images when samples are drawn; the paper searches it after training.
        drop: share of the labels that are hidden in training, so that samples can be guided; the paper hides none.
        dropout: in the blocks of the two smaller networks.
        sample_steps: of the super-resolution models' sampler, and of the base's.
        checkpoint: whether blocks are computed again in the backward pass, to save memory.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub, where ILSVRC's terms are to be accepted.
        bf16: whether the networks compute in bfloat16.
    """
    from datamodules.readers.images import Images
    from datamodules.shrunk import Shrunk
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.cascade import Cascade, base, super_resolution
    from lightning_modules.diffusion.models.improved_ddpm import ImprovedDDPM
    from lightning_modules.nets.unet import UNet
    from lightning_modules.staged import Stage

    images = Images(name="ILSVRC/imagenet-1k", data_dir=data_dir, size=size)
    if size % 8:
        raise UsageError(f"--size of cascade_imagenet must be a multiple of 8, not {size}.")
    own = {name: Shrunk(images, factor) for name, factor in zip(STAGES, (8, 4), strict=False)} | {"to256": images}
    net = partial(
        UNet, 3, head=min(64, width // 2), classes=images.classes, scale_shift=True, residual_resampling=True,
        checkpoint=checkpoint, bf16=bf16,
    )  # fmt: skip
    larger = partial(net, image=3, numbers=int(most > 0))
    build = partial(base, label_drop=drop, steps=sample_steps)

    def first() -> Denoising:
        made = net(width=width, multiples=(1, 2, 3, 4), blocks=6, attention=(1, 2), dropout=dropout, outputs=2)
        table = schedules.cosine(levels)
        model = ImprovedDDPM(made, own["base"].shape, levels=table, clip=True, label_drop=drop)
        model.draw = replace(model.draw, steps=min(sample_steps, levels))
        return model

    def second() -> Denoising:
        made = larger(width=width, multiples=(1, 2, 3, 4), blocks=5, attention=(2, 3), dropout=dropout)
        return super_resolution(build(made, own["to64"].shape), 2, most=most)

    def third() -> Denoising:
        made = larger(width=width // 2, multiples=(1, 2, 4, 4, 8, 8), blocks=3, attention=(4, 5))
        return super_resolution(build(made, images.shape), 4, most=most, blur=blur)

    makers = dict(zip(STAGES, (first, second, third), strict=True))
    if stage != "all":
        return Fit(checked(makers[stage]()), own[stage])
    counts = [steps * 7 // 16 if base_steps is None else base_steps, steps // 4 if to64_steps is None else to64_steps]
    counts.append(max(0, steps - sum(counts)))
    parts = [Stage(name, checked(makers[name]()), count) for name, count in zip(STAGES, counts, strict=True)]
    return Fit(Cascade(tuple(parts), levels=(level, level)), images)  # type: ignore[arg-type]


@fit(
    system="Cascaded diffusion", data="", headline=PAPER, needs={"base": "cascade", "upsampler": "cascade"}, steps=40_000, batch=64,
    lr=2e-4, warmup=500, ema=0.999, grad_clip=1.0, log_every=50,
)  # fmt: skip
def cascade(
    *,
    steps: int,
    data: Location = "",
    size: int = 0,
    factor: Count = 4,
    stage: Literal["all", "base", "upsampler"] = "all",
    base_steps: Whole | None = None,
    width: int = 64,
    most: NotNegative = 10.0,
    blur: Share = 0.0,
    level: NotNegative = 0.0,
    truncated: bool = False,
    drop: Decay = 0.0,
    dropout: Decay = 0.0,
    sample_steps: Count = 100,
) -> Fit:
    """A cascade on your images: a base draws small ones, a super-resolution model makes them larger.

    `--stage base` trains the base alone, and `--base_steps 0 --start base=RUN` takes it from there. A run with `--stage upsampler`, or of
    the whole cascade, makes larger what `reprise sample RUN --image FILE` names.

    Args:
        steps: of both stages.
        data: a folder of images, or the name of a set.
        size: height and width of the large images.
        factor: how often larger they are than the small ones, which are their means of factor x factor pixels.
        stage: the whole cascade, or one stage as a run of its own.
        base_steps: optimiser steps of the base, half by default; 0 where it comes from another run.
        width: channels of each U-Net at full resolution, twice as many below.
        most: highest level of the noise of low-resolution images in training.
        blur: share of the low-resolution images that are blurred in training.
        level: of the noise of low-resolution images when samples are drawn; the evaluation tries several.
        truncated: whether the base stops at that level when samples are drawn, in place of noise that is added.
        drop: share of the labels that are hidden in training, so that samples can be guided by labels; 0: a model without labels.
        dropout: in the blocks.
        sample_steps: of the sampler of each stage.
    """
    from datamodules.shrunk import Shrunk
    from lightning_modules.diffusion.models.cascade import Cascade, base, super_resolution
    from lightning_modules.nets.unet import UNet
    from lightning_modules.staged import Stage
    from ray_jobs.recipes.diffusion.own_data import opened

    found = opened(data, size, drop)
    if len(found.shape) != 3:
        raise UsageError(f"A cascade is for images, but an example of '{data}' has the shape {found.shape}.")
    if level > most:
        raise UsageError(
            f"--level {level:g} is above the highest noise level of training: take at most --most {most:g}."
        )
    small = Shrunk(found, factor)
    net = partial(
        UNet,
        found.shape[0],
        width=width,
        multiples=(1, 2),
        head=width,
        dropout=dropout,
        classes=found.classes if drop else 0,
    )
    build = partial(base, label_drop=drop or None, steps=sample_steps)
    if stage == "base":
        return Fit(checked(build(net(), small.shape)), small, partial(likeness, n=64))
    large = build(net(image=found.shape[0], numbers=int(most > 0)), found.shape)
    upsampler = super_resolution(checked(large), factor, most=most, blur=blur)
    if stage == "upsampler":
        return Fit(upsampler, found, enlarged)  # type: ignore[arg-type]
    first = steps // 2 if base_steps is None else base_steps
    stages = (Stage("base", checked(build(net(), small.shape)), first), Stage("upsampler", upsampler, steps - first))
    return Fit(Cascade(stages, levels=(level,), truncated=truncated), found, of_levels)  # type: ignore[arg-type]


def checked(model: Denoising) -> Denoising:
    """The model, after its network has accepted the size of its images.

    Raises:
        ValueError: it cannot halve them so often.
    """
    model.net.check(model.shape)  # type: ignore[operator]  # UNet has it
    return model


def enlarged(model: Denoising, data: Data, *, n: int = 64) -> dict[str, float]:
    """Samples of a super-resolution model from the twins of n held-out images: sliced_w2, their distance to these images; low_error, the
    root of the mean squared difference of their own twins from those."""
    import torch

    from lightning_modules.diffusion.low_resolution import low
    from lightning_modules.metrics.samples import sliced_wasserstein

    rng, batch = measuring(), data.test(n)
    cond = model.conditions(batch)
    x = model.sample(len(batch["x"]), cond, rng=rng).cpu()
    assert cond.image is not None
    twins = low(x, x.shape[2] // cond.image.shape[2])
    return {
        "sliced_w2": sliced_wasserstein(x, batch["x"].cpu(), rng=torch.Generator().manual_seed(0)),
        "low_error": (twins - cond.image.cpu()).square().mean().sqrt().item(),
    }


def of_levels(model: Cascade, data: Data, *, n: int = 64) -> dict[str, float]:
    """sliced_w2_S: distance of n samples to held-out images, where low-resolution images have noise of the level S; chosen_level: the best
    level by the distance of other samples to training images, sliced_w2: the distance to held-out images there."""
    import torch

    from lightning_modules.metrics.samples import sliced_wasserstein

    rng, held, seen = measuring(), data.test(n)["x"].cpu(), some_seen(data, n)
    levels = [s for s in LEVELS if s <= model.parts[1].learn.augment.most]  # type: ignore[union-attr]

    def distance(to: Tensor) -> Callable[[float], float]:
        def closeness(x: Tensor) -> float:
            return -sliced_wasserstein(x, to, rng=torch.Generator().manual_seed(0))

        return at_level(model, model.parts[0].sample(len(to), rng=rng), closeness, rng)

    best, found = best_level(levels, distance(seen), distance(held))
    return {f"sliced_w2_{s:g}": -score for s, score in found.items()} | {
        "chosen_level": best,
        "sliced_w2": -found[best],
    }


def some_seen(data: Data, n: int) -> Tensor:
    """At most n training examples."""
    if data.source is None:
        data.setup("fit")
    assert data.source is not None
    most = min(n, getattr(data.source, "size", n))
    return data.source.rows(data.seed, 0, most, 0, most)["x"].cpu()
