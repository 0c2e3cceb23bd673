"""Recipes that PixelCNN and the layers of PixelRNN share: images of known probability, digits, CIFAR-10."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ray_jobs.recipe import Claim, Fit, Headline, Location, Recipe, Variant, fit
from ray_jobs.recipe.measures import bits_above_truth, exact_bits_of_digits, exact_bits_of_images

if TYPE_CHECKING:
    from lightning_modules.autoregressive.pixels import PixelModel

SMALL: dict[str, Any] = {
    "space": {"lr": "loguniform(5e-4,1e-2)", "width": "choice(12,16,24)"},
    "lr": 4e-3,
    "warmup": 50,
    "ema": 0.99,
    "grad_clip": 1.0,
}
"""Search space and options of a training on small images."""


class Build(Protocol):
    """A function that builds an untrained model of images [B, C, H, W] of grey levels."""

    def __call__(self, shape: tuple[int, ...], *, depth: int, width: int, head: int, levels: int) -> PixelModel: ...


def paper(value: float | None = None) -> Headline:
    """The paper, and its bits per dimension on CIFAR-10."""
    if value is None:
        return Headline("van den Oord et al. 2016", arxiv="1601.06759")
    return Headline("van den Oord et al. 2016", "1601.06759", metric="bits_per_dim", value=value, where="Table 5")


def excess(at_most: float) -> Claim:
    """The claim that the model's code is at most so many bits per dimension longer than the exact one."""
    return Claim("excess_bits_per_dim", at_most=at_most)


def known(
    build: Build, system: str, *, steps: int, layers: int, spins: float, greys: float, prototypes: float
) -> Recipe:
    """The recipe of a model on small images of known probability.

    Args:
        build: the model.
        system: its name.
        steps: of the training.
        layers: default of the number of layers.
        spins, greys, prototypes: bounds of the claims on the three sets of images, in bits per dimension.
    """

    @fit(
        system=system,
        data="lattice, 8x8 spins",
        headline=paper(),
        claim=excess(spins),
        variants={
            "greys": Variant("lattice, 8x4 pixels of 4 greys", excess(greys), {"images": "greys"}),
            "prototypes": Variant("prototypes, 8x8", excess(prototypes), {"images": "prototypes"}),
        },
        steps=steps,
        batch=64,
        **SMALL,
    )
    def recipe(*, images: str = "spins", width: int = 16, depth: int = layers, head: int = 32) -> Fit:
        """A small model of fresh images of known probability: bits per pixel above the least possible.

        Args:
            images: 'spins', 'greys' or 'prototypes'.
            width: h; residual layers have 2h features.
            depth: residual layers.
            head: features between the last two convolutions.
        """
        from datamodules.labs import lattice

        data = lattice.images(images)
        model = build(data.shape, depth=depth, width=width, head=head, levels=data.levels)
        return Fit(model, data, bits_above_truth)

    return recipe


def digits(build: Build, system: str, *, steps: int, layers: int) -> Recipe:
    """The recipe of a model on the digits of scikit-learn; arguments as in `known`."""

    @fit(
        system=system,
        data="digits, 4 levels, writers shared by both parts",
        headline=paper(),
        claim=Claim("bits_per_dim", at_most=0.85),
        steps=steps,
        batch=50,
        **SMALL,
    )
    def recipe(*, width: int = 16, depth: int = layers, head: int = 32, levels: int = 4) -> Fit:
        """A small model of handwritten digits of few grey levels: exact bits per pixel, no download.

        Args:
            width: h; residual layers have 2h features.
            depth: residual layers.
            head: features between the last two convolutions.
            levels: of grey; the digits have 17.
        """
        from datamodules.readers.digits import Digits

        model = build(Digits.shape, depth=depth, width=width, head=head, levels=levels)
        return Fit(model, Digits(levels=levels), exact_bits_of_digits)

    return recipe


def cifar10(build: Build, system: str, *, value: float, layers: int) -> Recipe:
    """The recipe of a model at the paper's scale, whose bits per dimension were `value`; arguments as in `known`."""

    @fit(
        system=system,
        data="CIFAR-10",
        headline=paper(value),
        space={"lr": "loguniform(1e-4,2e-3)"},
        steps=500_000,
        batch=16,
        lr=3e-4,
        warmup=1000,
        ema=0.999,
        num_workers=4,
        grad_clip=1.0,
        save_every=5000,
        log_every=100,
    )
    def recipe(*, width: int = 128, depth: int = layers, head: int = 1024, data_dir: Location = "") -> Fit:
        """A model of the paper's size of CIFAR-10 images, all 256 levels of three colours; needs GPUs.

        Args:
            width: h; residual layers have 2h features.
            depth: residual layers.
            head: features between the last two convolutions.
            data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        """
        from datamodules.readers.images import Images

        images = Images(name="uoft-cs/cifar10", data_dir=data_dir)
        model = build(images.shape, depth=depth, width=width, head=head, levels=256)
        return Fit(model, images, exact_bits_of_images)

    return recipe
