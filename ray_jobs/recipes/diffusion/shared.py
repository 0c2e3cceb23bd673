"""What recipes of diffusion share: the networks of images, and measures on data whose denoiser is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

from ray_jobs.recipe.measures import measuring

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from datamodules.base import Data
    from datamodules.labs.density2d import Density2D
    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.diffusion.denoising import Denoising
    from lightning_modules.nets.dit import DiT
    from lightning_modules.nets.embed import Features

Backbone = Literal["unet", "dit"]
"""The network of a recipe of images: a U-Net, or a transformer over patches (DiT)."""


def image_net(
    kind: Backbone,
    data: Data,
    width: int,
    *,
    multiples: tuple[int, ...],
    blocks: int = 2,
    attention: tuple[int, ...] = (1,),
    head: int = 64,
    patch: int = 1,
    depth: int = 12,
    dropout: float = 0.0,
    outputs: int = 1,
    numbers: int = 0,
    adm: bool = False,
    bf16: bool = False,
    classes: int = 0,
    diffusers: bool = False,
) -> nn.Module:
    """The network of a denoiser of the images of `data`.

    Args:
        kind: which network.
        width: channels of the U-Net at full resolution; see `transformer` for a DiT.
        multiples, blocks, attention, head: of the U-Net.
        patch: side of the squares of pixels that the U-Net works on; a DiT's patches have at least twice as many pixels to a side.
        depth: blocks of the DiT.
        dropout, outputs, numbers, bf16, classes: of either.
        adm: whether the U-Net has ADM's blocks: AdaGN, and residual blocks that halve and double.
        diffusers: whether it is a network that diffusers has: given the index of the level, and with one number of groups.

    Raises:
        ValueError: the U-Net cannot halve images of this size, or the DiT cannot cut them into patches.
    """
    from lightning_modules.nets.embed import index_waves
    from lightning_modules.nets.residual import grouped, norm
    from lightning_modules.nets.unet import UNet

    if kind == "dit":
        net: DiT | UNet = transformer(
            data.shape,
            width,
            depth,
            least=2 * patch,
            dropout=dropout,
            outputs=outputs,
            numbers=numbers,
            bf16=bf16,
            classes=classes,
            waves=partial(index_waves, dim=256, shift=1) if diffusers else None,
        )
    else:
        net = UNet(
            data.shape[0], width=width, multiples=multiples, blocks=blocks, attention=attention, head=head,
            dropout=dropout, bf16=bf16, outputs=outputs, numbers=numbers, classes=classes, patch=patch, scale_shift=adm,
            residual_resampling=adm, features=partial(index_waves, dim=width) if diffusers else None,
        )  # fmt: skip
        if diffusers:
            grouped(net, norm(width).num_groups)
    net.check(data.shape)
    return net


digits_net = partial(image_net, multiples=(1, 2), blocks=1, head=24, depth=4)
"""The network of handwritten digits."""
imagenet64_net = partial(image_net, multiples=(1, 2, 3, 4), blocks=3, attention=(1, 2, 3), adm=True)
"""ADM's network of ImageNet in 64x64 pixels."""


def level_input(levels: Tensor, diffusers: bool) -> Callable[[Tensor], Tensor]:
    """What a network of images is given about a level: its logarithm, or its index in the table, as diffusers' networks are."""
    import torch

    from lightning_modules.diffusion import schedules

    return partial(schedules.index_of, levels=levels) if diffusers else torch.log


def transformer(
    shape: tuple[int, ...],
    width: int,
    depth: int,
    *,
    least: int = 2,
    dropout: float,
    outputs: int,
    bf16: bool,
    numbers: int = 0,
    classes: int = 0,
    waves: Features | None = None,
) -> DiT:
    """A DiT of about as many weights as a U-Net of this width: 3 width features, rounded to a multiple of 12; DiT-S for 128.

    Its heads have at least 64 features. Its patches have `least` pixels to a side, and more where the images have 64 or more, so that
    there are at most 31 x 31 patches.
    """
    from lightning_modules.nets.dit import DiT, Size

    features = 12 * max(1, round(width / 4))
    heads = next(h for h in range(max(1, features // 64), 0, -1) if features % h == 0)
    patch = max(least, 2 ** ((max(shape[1:]) // 16).bit_length() - 1))
    size = Size(features, depth, heads)
    return DiT(
        shape[0], size, patch=patch, dropout=dropout, outputs=outputs, numbers=numbers, bf16=bf16, classes=classes,
        features=waves,
    )  # fmt: skip


def against_optimum(model: Denoising, data: GaussImage) -> dict[str, float]:
    """Excess of the noise's error over the least possible; nats lost in the bound; samples over the sampling floor."""
    from lightning_modules.metrics.gaussian import frechet_floor, frechet_of
    from lightning_modules.metrics.likelihood import noise_excess

    rng, truth = measuring(), (data.mean, data.cov)
    x = data.test(8192)["x"].to(model.device)
    excess, floor = noise_excess(model.denoiser(), data.denoise, x, model.bound.levels, rng=rng)
    bound = model.log_prob(x[:2048], terms=50, rng=rng).double().mean().item()
    drawn = frechet_of(model.sample(4096, rng=rng).cpu(), truth)
    return {
        "noise_excess": excess / floor,
        "bound_lost": (data.best_bound(model.bound.levels, model.bound.variance) - bound) / x[0].numel(),
        "frechet_ratio": drawn / frechet_floor(lambda n, g: data.draw(n, g)["x"], truth, 4096),
    }


def against_mixture(model: Denoising, data: Density2D) -> dict[str, float]:
    """Excess of the noise's error over the least possible; samples over the sampling floor; shares of the components."""
    from lightning_modules.metrics.gaussian import frechet_floor, frechet_of
    from lightning_modules.metrics.likelihood import noise_excess

    rng, truth = measuring(), data.density.moments()
    x = data.test(16384)["x"].to(model.device)
    excess, floor = noise_excess(model.denoiser(), data.density.denoise, x, model.bound.levels, rng=rng)
    drawn = model.sample(4096, rng=rng, batch=4096).cpu()
    return {
        "noise_excess": excess / floor,
        "frechet_ratio": frechet_of(drawn, truth) / frechet_floor(data.density.draw, truth, 4096, repeats=100),
        "component_share_error": data.density.coverage(drawn),
    }


def w2_ratios(
    models: Mapping[int, Denoising], data: Density2D, rng: torch.Generator, *, repeats: int = 4
) -> tuple[dict[int, Tensor], dict[str, float]]:
    """Samples [1024, 2] by their number of steps N; w2_ratio_N: their Wasserstein distance to examples over that of other examples.

    Args:
        models: number of steps -> the model that draws in so many.
        repeats: sets of examples over which both distances are averaged.
    """
    from lightning_modules.metrics.samples import wasserstein

    truths, others = ([data.density.draw(1024, rng).float() for _ in range(repeats)] for _ in range(2))
    floor = sum(map(wasserstein, others, truths))
    drawn = {n: model.sample(1024, rng=rng, steps=n, batch=1024).cpu() for n, model in models.items()}
    return drawn, {f"w2_ratio_{n}": sum(wasserstein(x, truth) for truth in truths) / floor for n, x in drawn.items()}
