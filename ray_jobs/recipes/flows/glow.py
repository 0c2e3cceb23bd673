"""Recipes of Glow."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe import Claim, Fit, Headline, Location, Variant, fit
from ray_jobs.recipe.measures import bits_above_truth, bits_of_digits
from ray_jobs.recipes.flows import shared

PAPER = Headline("Kingma & Dhariwal 2018", arxiv="1807.03039")
SPACE = {"lr": "loguniform(3e-4,5e-3)", "width": "choice(16,32,64)"}


@fit(
    system="Glow", headline=PAPER, claim=Claim("bits_per_dim", at_most=2.6), steps=500, lr=2e-3, **shared.DIGITS,
)  # fmt: skip
def glow_digits(*, depth: int = 4, width: int = 32, scales: int = 2, dequantiser: int = 8) -> Fit:
    """Glow on handwritten digits: bits per pixel, no download.

    Args:
        depth: steps of the flow at each scale.
        width: channels inside the couplings' networks.
        scales: how often the image is halved, 1 to 3.
        dequantiser: channels of the networks that learn the noise of grey levels; 0: it is uniform.
    """
    from datamodules.readers.digits import LEVELS, Digits
    from lightning_modules.flows.glow import Glow

    model = Glow(Digits.shape, steps=depth, scales=scales, width=width, levels=LEVELS, dequantiser=dequantiser)
    return Fit(model, Digits(), bits_of_digits)


@fit(
    system="Glow", data="gauss_image", headline=PAPER, claim=Claim("excess_bits_per_dim", at_most=0.012), space=SPACE,
    variants={
        "textures": Variant("textures", Claim("excess_bits_per_dim", at_most=0.23),
                            {"images": "textures", "steps": 400}),
        "peaked": Variant("gauss_image, peaked", Claim("excess_bits_per_dim", at_most=0.14),
                          {"images": "peaked", "steps": 400}),
    },
    steps=800, batch=128, lr=2e-3, warmup=100, ema=0.998, grad_clip=10.0,
)  # fmt: skip
def glow_gauss_image(*, images: str = "smooth", depth: int = 6, width: int = 24, scales: int = 2, size: int = 8) -> Fit:
    """Glow on images of a known density, fresh at every step: bits per pixel above the least possible.

    Args:
        images: 'smooth', 'textures' or 'peaked'.
        depth: steps of the flow at each scale.
        width: channels inside the couplings' networks.
        scales: how often the image is halved.
        size: height and width of the images.
    """
    from datamodules.labs import textures
    from lightning_modules.flows.glow import Glow

    known = textures.images(images, size)
    model = Glow(known.shape, steps=depth, scales=scales, width=width)
    return Fit(model, known, partial(bits_above_truth, n=8192))


@fit(
    system="Glow",
    headline=Headline("Kingma & Dhariwal 2018", "1807.03039", metric="bits/dim", value=3.35, where="Table 2"),
    steps=1_400_000, batch=64, warmup=8000, **shared.CIFAR10,
)  # fmt: skip
def glow_cifar10(
    *, depth: int = 32, width: int = 512, scales: int = 3, dequantiser: int = 0, data_dir: Location = ""
) -> Fit:
    """Glow on CIFAR-10 at the paper's scale; needs GPUs.

    The paper's 3 scales of 32 steps.

    Args:
        depth: steps of the flow at each scale, the paper's K.
        width: channels inside the couplings' networks.
        scales: the paper's L.
        dequantiser: channels of the networks that learn the noise of grey levels; 0: it is uniform, as in the paper.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
    """
    from lightning_modules.flows.glow import Glow

    model = partial(Glow, steps=depth, width=width, scales=scales, levels=256, dequantiser=dequantiser)
    return shared.on_cifar10(model, data_dir)
