"""Recipes of DDPM."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ray_jobs.recipe import Claim, Fit, Headline, Location, fit
from ray_jobs.recipes.diffusion.shared import (
    Backbone,
    against_mixture,
    against_optimum,
    digits_net,
    image_net,
    level_input,
)

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.base import Data
    from lightning_modules.diffusion.denoising import Denoising

PAPER = Headline("Ho et al. 2020", arxiv="2006.11239")


def linear(levels: int) -> Tensor:
    """The paper's linear schedule, stretched to a number of noise levels."""
    from lightning_modules.diffusion import schedules

    return schedules.linear(levels, 0.1 / levels, 20 / levels)


def of_pixels(net: Any, data: Data, levels: int, diffusers: bool = False) -> Denoising:
    """DDPM of images of grey levels: clipped denoiser, discretised decoder, the larger variance (section 3.2)."""
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.ddpm import ddpm
    from lightning_modules.objectives import discretised_gaussian_log_prob

    decoder = partial(discretised_gaussian_log_prob, levels=data.levels)
    table = linear(levels)
    return ddpm(
        net, data.shape, levels=table, variance=schedules.forward, decoder=decoder, clip=True,
        level_input=level_input(table, diffusers),
    )  # fmt: skip


def of_vectors(data: Data, width: int, depth: int, levels: int) -> Denoising:
    """DDPM with a residual multilayer perceptron, for data whose denoiser is known."""
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.ddpm import ddpm
    from lightning_modules.nets.mlp import ResidualMLP

    net = ResidualMLP(data.shape, width=width, depth=depth)
    return ddpm(net, data.shape, levels=linear(levels), variance=schedules.forward)


@fit(
    system="DDPM", data="digits, writers shared by both parts", headline=PAPER, claim=Claim("bits_per_dim", at_most=2.75),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(16,24,32)"}, steps=1200, batch=64, lr=2e-3, warmup=100,
    ema=0.995, grad_clip=1.0,
)  # fmt: skip
def ddpm_digits(
    *,
    net: Backbone = "unet",
    width: int = 24,
    levels: int = 200,
    dropout: float = 0.0,
    bf16: bool = False,
    diffusers: bool = False,
) -> Fit:
    """DDPM on handwritten digits: a minute on two cores, no download.

    Args:
        net: which network, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution, twice as many at half; a third of the features of a DiT.
        levels: noise levels in training and sampling.
        dropout: in the blocks.
        bf16: whether the network computes in bfloat16.
        diffusers: whether the network is one that diffusers has, so that `reprise export` can write it.
    """
    from datamodules.readers.digits import Digits

    data = Digits()
    made = digits_net(net, data, width, dropout=dropout, bf16=bf16, diffusers=diffusers)
    return Fit(of_pixels(made, data, levels, diffusers), data, bound_and_frechet)


def bound_and_frechet(model: Denoising, data: Data) -> dict[str, float]:
    """The bound on held-out digits, and the distance of samples to these, see `frechet_to_held_out`."""
    import torch

    from ray_jobs.recipe.measures import frechet_to_held_out

    rng = torch.Generator().manual_seed(0)
    real = data.test()["x"].to(model.device)
    drawn = model.sample(3 * len(real), rng=rng, steps=min(50, len(model.bound.levels)))
    bits = model.bits_per_dim(real, terms=30, rng=rng).mean().item()
    return {"bits_per_dim": bits, "frechet_held_out": frechet_to_held_out(drawn, data)}


@fit(
    system="DDPM", data="gauss_image", headline=PAPER, claim=Claim("noise_excess", at_most=0.03),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)"}, steps=3000, batch=512, lr=2e-3, warmup=100,
    ema=0.998,
)  # fmt: skip
def ddpm_gauss_image(*, width: int = 128, depth: int = 2, levels: int = 200, size: int = 8) -> Fit:
    """DDPM on a known Gaussian: how far the learned noise, bound and samples are from the exact optimum.

    Args:
        width: of the hidden layers.
        depth: residual blocks.
        levels: noise levels in training and sampling.
        size: height and width of the images.
    """
    from datamodules.labs.gauss_image import GaussImage

    data = GaussImage(size=size)
    return Fit(of_vectors(data, width, depth, levels), data, against_optimum)  # type: ignore[arg-type]


@fit(
    system="DDPM", data="density2d", headline=PAPER, claim=Claim("noise_excess", at_most=0.03),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(64,128,256)"}, steps=3000, batch=1024, lr=3e-3, warmup=100,
    ema=0.998,
)  # fmt: skip
def ddpm_mixture2d(*, density: str = "ring", width: int = 64, depth: int = 3, levels: int = 200) -> Fit:
    """DDPM on a mixture of Gaussians in the plane: the learned score against the exact one.

    Args:
        density: 'ring', 'grid' or 'pinwheel'.
        width: of the hidden layers.
        depth: residual blocks.
        levels: noise levels in training and sampling.
    """
    from datamodules.labs.density2d import Density2D

    data = Density2D(name=density, mixture=True)
    return Fit(of_vectors(data, width, depth, levels), data, against_mixture)  # type: ignore[arg-type]


@fit(
    system="DDPM", data="MNIST", headline=PAPER,
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(24,32,48)"}, steps=4000, batch=64, lr=2e-3, warmup=200,
    ema=0.998, grad_clip=1.0,
)  # fmt: skip
def ddpm_mnist(
    *,
    net: Backbone = "unet",
    width: int = 32,
    levels: int = 1000,
    dropout: float = 0.0,
    data_dir: Location = "",
    bf16: bool = False,
) -> Fit:
    """DDPM on all of MNIST, on squares of 2 x 2 pixels: about 20 minutes on one core.

    Args:
        net: which network, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at half resolution, twice as many at a quarter; a third of the features of a DiT.
        levels: noise levels in training and sampling.
        dropout: in the blocks.
        data_dir: folder of MNIST's four IDX files, or of parquet files with the columns image and label; '' takes the hub.
        bf16: whether the network computes in bfloat16.
    """
    from datamodules.readers.images import Images

    images = Images(name="ylecun/mnist", data_dir=data_dir, in_memory=True)
    made = image_net(
        net, images, width, multiples=(1, 2), blocks=1, head=width, patch=2, depth=4, dropout=dropout, bf16=bf16
    )
    return Fit(of_pixels(made, images, levels), images, bound)


@fit(
    system="DDPM", data="CIFAR-10",
    headline=Headline("Ho et al. 2020", arxiv="2006.11239", metric="FID", value=3.17, where="Table 1"),
    space={"lr": "loguniform(5e-5,1e-3)", "dropout": "uniform(0,0.3)"}, steps=800_000, batch=128, lr=2e-4, warmup=5000,
    ema=0.9999, num_workers=4, grad_clip=1.0, save_every=5000, log_every=100,
)  # fmt: skip
def ddpm_cifar10(
    *,
    net: Backbone = "unet",
    width: int = 128,
    levels: int = 1000,
    dropout: float = 0.1,
    data_dir: Location = "",
    bf16: bool = False,
    diffusers: bool = False,
) -> Fit:
    """DDPM on CIFAR-10 at the paper's scale; needs GPUs.

    `--features FILE` measures its FID, of 50,000 samples against the training set.

    Args:
        net: which network, a U-Net or a transformer over patches (DiT).
        width: channels of the U-Net at full resolution, twice as many below; a third of the features of a DiT.
        levels: noise levels in training and sampling.
        dropout: in the blocks.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        bf16: whether the network computes in bfloat16.
        diffusers: whether the network is one that diffusers has, so that `reprise export` can write it.
    """
    from datamodules.readers.images import Images

    images = Images(name="uoft-cs/cifar10", data_dir=data_dir)
    made = image_net(
        net, images, width, multiples=(1, 2, 2, 2), head=2 * width, dropout=dropout, bf16=bf16, diffusers=diffusers
    )
    return Fit(of_pixels(made, images, levels, diffusers), images, bound)


def bound(model: Denoising, data: Data) -> dict[str, float]:
    """The bound on 1,024 held-out images, 100 of its terms each."""
    import torch

    x = data.test(1024)["x"].to(model.device)
    rng = torch.Generator().manual_seed(0)
    bits = torch.cat([model.bits_per_dim(part, terms=100, rng=rng) for part in x.split(128)])
    return {"bits_per_dim": bits.mean().item()}
