"""Recipes of Improved DDPM."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from ray_jobs.recipe import Claim, Fit, Headline, Location, Variant, fit
from ray_jobs.recipe.measures import measuring
from ray_jobs.recipes.diffusion.ddpm import bound, bound_and_frechet, linear
from ray_jobs.recipes.diffusion.shared import Backbone, against_optimum, digits_net, image_net, level_input

if TYPE_CHECKING:
    from torch import Tensor, nn

    from datamodules.base import Data
    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.diffusion.models.improved_ddpm import ImprovedDDPM

PAPER = Headline("Nichol & Dhariwal 2021", arxiv="2102.09672")
Objective = Literal["hybrid", "bound"]


def of_pixels(
    net: nn.Module, data: Data, levels: Tensor, objective: Objective, diffusers: bool = False
) -> ImprovedDDPM:
    """Improved DDPM of images of grey levels: clipped denoiser, discretised decoder."""
    from lightning_modules.diffusion.models.improved_ddpm import ImprovedDDPM
    from lightning_modules.objectives import discretised_gaussian_log_prob

    decoder = partial(discretised_gaussian_log_prob, levels=data.levels)
    return ImprovedDDPM(
        net, data.shape, levels=levels, objective=objective, decoder=decoder, clip=True,
        level_input=level_input(levels, diffusers),
    )  # fmt: skip


@fit(
    system="Improved DDPM", data="gauss_image", headline=PAPER, claim=Claim("variance_gain", at_least=0.8),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)"}, steps=3000, batch=512, lr=2e-3, warmup=100,
    ema=0.998, variants={"bound": Variant("gauss_image", None, {"objective": "bound"})},
)  # fmt: skip
def iddpm_gauss_image(
    *, width: int = 128, depth: int = 2, levels: int = 200, size: int = 8, objective: Objective = "hybrid"
) -> Fit:
    """DDPM with a learned variance on a known Gaussian: how much of what the best variance gains it gains.

    Args:
        width: of the hidden layers.
        depth: residual blocks.
        levels: noise levels in training and sampling.
        size: height and width of the images.
        objective: 'hybrid', or the resampled 'bound' alone.
    """
    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.diffusion.models.improved_ddpm import ImprovedDDPM
    from lightning_modules.nets.mlp import ResidualMLP

    data = GaussImage(size=size)
    net = ResidualMLP(data.shape, width=width, depth=depth, outputs=2)
    model = ImprovedDDPM(net, data.shape, levels=linear(levels), objective=objective)
    return Fit(model, data, variance_gain)  # type: ignore[arg-type]


def variance_gain(model: ImprovedDDPM, data: GaussImage) -> dict[str, float]:
    """As `against_optimum`; and what the learned variance gains in the bound over the larger fixed one, as a share of what is possible."""

    from lightning_modules.conditions import UNCONDITIONAL
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.bound import log_prob_bound
    from lightning_modules.diffusion.steps import reverse

    x, levels = data.test(1024)["x"].to(model.device), model.bound.levels.to(model.device)
    denoise = model.denoiser()
    steps = (model.step(denoise, UNCONDITIONAL), reverse(denoise, schedules.forward))
    ours, fixed = (
        log_prob_bound(step, x, levels, decoder=model.bound.decoder, data_std=1.0, rng=measuring()).mean()
        for step in steps
    )
    possible = data.gain_of_variance(model.bound.levels)
    return against_optimum(model, data) | {"variance_gain": (ours - fixed).item() / possible}


@fit(
    system="Improved DDPM", data="digits, writers shared by both parts", headline=PAPER, claim=Claim("bits_per_dim", at_most=2.75),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(16,24,32)"}, steps=1200, batch=64, lr=2e-3, warmup=100,
    ema=0.995, grad_clip=1.0,
)  # fmt: skip
def iddpm_digits(
    *,
    net: Backbone = "unet",
    width: int = 24,
    levels: int = 200,
    dropout: float = 0.0,
    objective: Objective = "hybrid",
    diffusers: bool = False,
) -> Fit:
    """DDPM with a learned variance on handwritten digits.

    Args:
        net: which network, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution, twice as many at half; a third of the features of a DiT.
        levels: noise levels in training and sampling.
        dropout: in the blocks.
        objective: 'hybrid', or the resampled 'bound' alone.
        diffusers: whether the network is one that diffusers has, so that `reprise export` can write it.
    """
    from datamodules.readers.digits import Digits

    data = Digits()
    made = digits_net(net, data, width, dropout=dropout, outputs=2, diffusers=diffusers)
    return Fit(of_pixels(made, data, linear(levels), objective, diffusers), data, bound_and_frechet)


@fit(
    system="Improved DDPM", data="CIFAR-10",
    headline=Headline("Nichol & Dhariwal 2021", arxiv="2102.09672", metric="bits/dim", value=2.94, where="Table 2"),
    space={"lr": "loguniform(5e-5,5e-4)", "dropout": "uniform(0,0.3)"}, steps=500_000, batch=128, lr=1e-4, ema=0.9999,
    num_workers=4, save_every=5000, log_every=100,
)  # fmt: skip
def iddpm_cifar10(
    *,
    net: Backbone = "unet",
    width: int = 128,
    levels: int = 4000,
    dropout: float = 0.3,
    objective: Objective = "bound",
    data_dir: Location = "",
    bf16: bool = False,
    diffusers: bool = False,
) -> Fit:
    """DDPM with a learned variance and the cosine schedule on CIFAR-10 at the paper's scale; needs GPUs.

    Args:
        net: which network, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution, twice as many below; a third of the features of a DiT.
        levels: noise levels in training and sampling.
        dropout: in the blocks.
        objective: 'hybrid', for samples; or the resampled 'bound' alone, for the likelihood.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        bf16: whether the network computes in bfloat16.
        diffusers: whether the network is one that diffusers has, so that `reprise export` can write it.
    """
    from datamodules.readers.images import Images
    from lightning_modules.diffusion import schedules

    images = Images(name="uoft-cs/cifar10", data_dir=data_dir)
    made = image_net(
        net, images, width, multiples=(1, 2, 2, 2), blocks=3, attention=(1, 2), head=width // 2, dropout=dropout,
        bf16=bf16, outputs=2, diffusers=diffusers,
    )  # fmt: skip
    return Fit(of_pixels(made, images, schedules.cosine(levels), objective, diffusers), images, bound)
