"""Recipes of PixelCNN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipes.autoregressive.images import cifar10, digits, known

if TYPE_CHECKING:
    from lightning_modules.autoregressive.pixelcnn import PixelCNN


def build(shape: tuple[int, ...], *, depth: int, width: int, head: int, levels: int) -> PixelCNN:
    """The untrained model; arguments as those of `PixelCNN`."""
    from lightning_modules.autoregressive.pixelcnn import PixelCNN

    return PixelCNN(shape, depth=depth, width=width, head=head, levels=levels)


pixelcnn_known = known(build, "PixelCNN", steps=400, layers=4, spins=0.003, greys=0.008, prototypes=0.055)
pixelcnn_digits = digits(build, "PixelCNN", steps=700, layers=4)
pixelcnn_cifar10 = cifar10(build, "PixelCNN", value=3.14, layers=15)
