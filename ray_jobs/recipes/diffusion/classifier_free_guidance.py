"""Recipes of classifier-free guidance."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, Location, fit
from ray_jobs.recipe.measures import measuring
from ray_jobs.recipes.diffusion.shared import Backbone, digits_net, guided_excess, imagenet64_net, of_classes, of_digits

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.labs.density2d import Density2D
    from datamodules.readers.digits import Digits
    from lightning_modules.diffusion.denoising import Denoising
    from lightning_modules.diffusion.preconditioning import Denoiser

PAPER = Headline("Ho & Salimans 2022", arxiv="2207.12598")
REACH = 10.0
"""Largest logarithm of the signal-to-noise ratio in the laboratories, where estimates of x0 are not clipped; levels are up to 148."""
STRENGTH = 1.0
"""w, at which guided models are measured."""


def interval(low: float, high: float) -> tuple[float, float] | None:
    """The levels in which samples are guided; None: all, where `high` is 0."""
    return (low, high) if high else None


@fit(
    system="Classifier-free guidance", data="density2d", headline=PAPER, claim=Claim("guided_excess", at_most=0.35),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)", "drop": "choice(0.1,0.2,0.5)"}, steps=3000,
    batch=1024, lr=3e-3, warmup=100, ema=0.998,
)  # fmt: skip
def cfg_mixture2d(
    *,
    density: str = "ring",
    width: int = 64,
    depth: int = 3,
    drop: float = 0.1,
    guide_above: float = 0.0,
    guide_up_to: float = 0.0,
    rescale: float = 0.0,
    sample_steps: int = 256,
) -> Fit:
    """Classifier-free guidance to the components of a mixture in the plane: the guided score against the exact one.

    Args:
        density: 'ring', 'grid' or 'pinwheel'.
        width: of the hidden layers.
        depth: residual blocks.
        drop: share of the points whose label is hidden in training.
        guide_above: the noise level above which samples are guided.
        guide_up_to: the noise level up to which samples are guided; 0: any.
        rescale: share of the rescaling of guided estimates to the deviation of those with labels, 0 to 1.
        sample_steps: of the sampler.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.diffusion.models.classifier_free_guidance import classifier_free_guidance
    from lightning_modules.nets.mlp import ResidualMLP

    data = Density2D(name=density, labels=True)
    net = ResidualMLP(data.shape, width=width, depth=depth, classes=data.classes)
    between = interval(guide_above, guide_up_to)
    model = classifier_free_guidance(
        net, data.shape, drop=drop, reach=REACH, interval=between, rescale=rescale, steps=sample_steps
    )
    return Fit(model, data, against_guided)  # type: ignore[arg-type]


def against_guided(model: Denoising, data: Density2D) -> dict[str, float]:
    """The guided denoiser and its samples, against those of the exact denoisers with and without the label.

    label_excess, null_excess: of the noise with and without labels, over the least errors. guided_excess: see there, at the strength w = 1.
    guided_w2_ratio: Wasserstein distance of 1,024 guided samples to those that the exact denoisers guide, over that of two such sets.
    And `of_classes` without guidance.
    """
    from lightning_modules.diffusion.guidance import guided
    from lightning_modules.metrics.likelihood import noise_excess

    density, batch = data.density, data.test(16384)
    x, label = batch["x"].to(model.device), batch["label"].to(model.device)
    of_class = partial(density.denoise_given, label=label)
    levels = model.bound.levels
    with_label = noise_excess(model.denoiser(label), of_class, x, levels, rng=measuring())
    without = noise_excess(model.denoiser(), density.denoise, x, levels, rng=measuring())
    ours = guided(model.denoiser(label), model.denoiser(), STRENGTH)
    exact = guided(of_class, density.denoise, STRENGTH)
    return {
        "label_excess": with_label[0] / with_label[1],
        "null_excess": without[0] / without[1],
        "guided_excess": guided_excess(model, ours, exact, x, label, data),
        "guided_w2_ratio": guided_w2_ratio(model, data),
    } | of_classes(model, data, 0.0)


def guided_w2_ratio(model: Denoising, data: Density2D, *, n: int = 1024) -> float:
    """Distance of guided samples to those of the exact denoisers, which the model's own sampler draws, over that of two exact sets."""
    import torch

    from lightning_modules.diffusion.samplers import chain
    from lightning_modules.diffusion.samplers.ancestral import ancestral
    from lightning_modules.diffusion.steps import reverse
    from lightning_modules.metrics.samples import wasserstein

    label, rng, grid = torch.arange(n) % data.classes, measuring(), model.draw.grid(model.draw.steps)
    density = data.density

    def exact() -> Tensor:
        of_class: Denoiser = partial(density.denoise_given, label=label)
        denoise = model.draw.guide(of_class, density.denoise, STRENGTH)
        y = chain.start(torch.empty(n, *data.shape), grid, data_std=model.draw.data_std, rng=rng)
        return ancestral(reverse(denoise, model.bound.variance), y, grid, rng=rng)

    one, other = exact(), exact()
    drawn = model.sample(n, label, guidance=STRENGTH, rng=rng, batch=n).cpu()
    return wasserstein(drawn, one) / wasserstein(other, one)


@fit(
    system="Classifier-free guidance", data="digits, writers shared by both parts", headline=PAPER,
    claim=Claim("accuracy_gain", at_least=0.05), space={"lr": "loguniform(3e-4,5e-3)", "drop": "choice(0.1,0.2,0.5)"},
    steps=1200, batch=64, lr=2e-3, warmup=100, ema=0.995, grad_clip=1.0,
)  # fmt: skip
def cfg_digits(
    *,
    net: Backbone = "unet",
    width: int = 24,
    drop: float = 0.1,
    guide_above: float = 0.0,
    guide_up_to: float = 0.0,
    rescale: float = 0.0,
    sample_steps: int = 50,
) -> Fit:
    """Classifier-free guidance of handwritten digits: more of them are what they shall be, and they differ less.

    Args:
        net: which network, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution, twice as many at half; a third of the features of a DiT.
        drop: share of the images whose label is hidden in training.
        guide_above: the noise level above which samples are guided.
        guide_up_to: the noise level up to which samples are guided; 0: any.
        rescale: share of the rescaling of guided estimates to the deviation of those with labels, 0 to 1.
        sample_steps: of the sampler.
    """
    from datamodules.readers.digits import Digits
    from lightning_modules.diffusion.models.classifier_free_guidance import classifier_free_guidance

    data = Digits()
    made = digits_net(net, data, width, classes=data.classes)
    between = interval(guide_above, guide_up_to)
    model = classifier_free_guidance(
        made, data.shape, drop=drop, reach=REACH, interval=between, rescale=rescale, steps=sample_steps, clip=True
    )
    return Fit(model, data, led_digits)  # type: ignore[arg-type]


def led_digits(model: Denoising, data: Digits) -> dict[str, float]:
    """`of_digits` at the strengths 0 and 2."""
    return of_digits(model, data, (0.0, 2.0))


@fit(
    system="Classifier-free guidance", data="ImageNet, 64x64",
    headline=Headline("Ho & Salimans 2022", arxiv="2207.12598", metric="FID", value=1.55, where="Table 1"),
    space={"lr": "loguniform(5e-5,5e-4)", "drop": "choice(0.1,0.2,0.5)"}, steps=400_000, batch=2048, lr=3e-4,
    ema=0.9999, num_workers=8, save_every=5000, log_every=100,
)  # fmt: skip
def cfg_imagenet64(
    *,
    net: Backbone = "unet",
    width: int = 192,
    drop: float = 0.1,
    dropout: float = 0.1,
    guide_above: float = 0.0,
    guide_up_to: float = 0.0,
    rescale: float = 0.0,
    sample_steps: int = 256,
    data_dir: Location = "",
    bf16: bool = False,
) -> Fit:
    """Classifier-free guidance on ImageNet of 64x64 pixels at the paper's scale, with ADM's network, batch and rate; needs GPUs.

    The paper's number is of 256 steps at w = 0.1: `reprise sample RUN --guidance 0.1 --label 0,1,2`.

    Args:
        net: which network, a U-Net with ADM's blocks or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution; a third of the features of a DiT.
        drop: share of the images whose label is hidden in training.
        dropout: in the blocks.
        guide_above: the noise level above which samples are guided.
        guide_up_to: the noise level up to which samples are guided; 0: any.
        rescale: share of the rescaling of guided estimates to the deviation of those with labels, 0 to 1.
        sample_steps: of the sampler.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
        bf16: whether the network computes in bfloat16.
    """
    from datamodules.readers.images import Images
    from lightning_modules.diffusion.models.classifier_free_guidance import classifier_free_guidance

    images = Images(name="benjamin-paine/imagenet-1k-64x64", data_dir=data_dir)
    made = imagenet64_net(net, images, width, head=min(64, width), dropout=dropout, classes=images.classes, bf16=bf16)
    between = interval(guide_above, guide_up_to)
    model = classifier_free_guidance(
        made, images.shape, drop=drop, interval=between, rescale=rescale, steps=sample_steps, clip=True
    )
    return Fit(model, images)
