"""GANs by their own names, on a user's data: `reprise train dcgan --data photos/ --size 32`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray_jobs.recipe import Fit, Headline, Location, fit
from ray_jobs.recipe.measures import likeness

if TYPE_CHECKING:
    from torch import nn

OPTIONS: dict[str, Any] = {"data": "", "steps": 10_000, "batch": 64, "ema": 0.999, "log_every": 50}
"""Options of a training on a user's data."""


def networks(shape: tuple[int, ...], latents: int, width: int, *, batch_norm: bool) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator for examples of a shape: strided convolutions for images, linear layers for vectors."""
    from lightning_modules.nets.adversarial import dense_discriminator, dense_generator
    from lightning_modules.nets.strided import strided_discriminator, strided_generator

    if len(shape) == 1:
        return dense_generator(latents, shape, width=2 * width), dense_discriminator(shape, width=2 * width)
    kind = "batch" if batch_norm else "none"
    return strided_generator(latents, shape, width=width), strided_discriminator(shape, width=width, kind=kind)


@fit(system="GAN", headline=Headline("Goodfellow et al. 2014", arxiv="1406.2661"), lr=2e-4, **OPTIONS)
def gan(*, data: Location = "", size: int = 0, latents: int = 64, width: int = 64) -> Fit:
    """GAN on a table or on images.

    Args:
        data: a table, a folder of images, or the name of a set or density.
        size: of images their sides, of a density its dimensions.
        latents: that an example is generated from.
        width: channels at half the resolution; of vectors, half the units of each hidden layer.
    """
    from datamodules.readers.own import read
    from lightning_modules.gan.gan import GAN

    found = read(data, size=size)
    return Fit(GAN(*networks(found.shape, latents, width, batch_norm=True), latents), found, likeness)


@fit(system="DCGAN", headline=Headline("Radford et al. 2016", arxiv="1511.06434"), lr=2e-4, **OPTIONS)
def dcgan(*, data: Location = "", size: int = 0, latents: int = 100, width: int = 64) -> Fit:
    """DCGAN on images.

    Args:
        data: a folder of images, or the name of a set.
        size: height and width that the images of a folder are brought to; 0: 32.
        latents: that an image is generated from.
        width: channels at half the resolution.
    """
    from datamodules.readers.own import read
    from lightning_modules.gan.dcgan import DCGAN

    images = read(data, kind="images", size=size)
    return Fit(DCGAN(images.shape, latents, width=width), images, likeness)


@fit(system="WGAN", headline=Headline("Arjovsky et al. 2017", arxiv="1701.07875"), lr=5e-5, **OPTIONS)
def wgan(*, data: Location = "", size: int = 0, latents: int = 64, width: int = 64, clip: float = 0.01) -> Fit:
    """WGAN on a table or on images.

    Args:
        data: a table, a folder of images, or the name of a set or density.
        size: of images their sides, of a density its dimensions.
        latents: that an example is generated from.
        width: channels at half the resolution; of vectors, half the units of each hidden layer.
        clip: largest magnitude of the critic's weights.
    """
    from datamodules.readers.own import read
    from lightning_modules.gan.wgan import WGAN

    found = read(data, size=size)
    return Fit(WGAN(*networks(found.shape, latents, width, batch_norm=True), latents, clip=clip), found, likeness)


@fit(system="WGAN-GP", headline=Headline("Gulrajani et al. 2017", arxiv="1704.00028"), lr=1e-4, **OPTIONS)
def wgan_gp(*, data: Location = "", size: int = 0, latents: int = 64, width: int = 64, penalty: float = 10.0) -> Fit:
    """WGAN-GP on a table or on images.

    Args:
        data: a table, a folder of images, or the name of a set or density.
        size: of images their sides, of a density its dimensions.
        latents: that an example is generated from.
        width: channels at half the resolution; of vectors, half the units of each hidden layer.
        penalty: weight of the penalty on the critic's gradient.
    """
    from datamodules.readers.own import read
    from lightning_modules.gan.wgan_gp import WGANGP

    found = read(data, size=size)
    model = WGANGP(*networks(found.shape, latents, width, batch_norm=False), latents, penalty=penalty)
    return Fit(model, found, likeness)
