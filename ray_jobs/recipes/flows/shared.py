"""Parts that recipes of flows share: vectors of a known density, on which all of them are compared, and CIFAR-10."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray_jobs.recipe import Claim, Fit, Variant
from ray_jobs.recipe.measures import bits_of_images, gap_to_entropy

if TYPE_CHECKING:
    from lightning_modules.flows.flow import Flow

VECTORS: dict[str, Any] = {"batch": 512, "lr": 0.002, "warmup": 100, "ema": 0.998, "grad_clip": 1.0}
"""Options of a training on vectors of a known density."""
SPACE = {"lr": "loguniform(5e-4,1e-2)", "width": "choice(32,64,128)"}
"""Its search space."""
DIGITS: dict[str, Any] = {
    "data": "digits, writers shared by both parts",
    "space": {"lr": "loguniform(3e-4,5e-3)", "width": "choice(16,32,64)"},
    "batch": 64,
    "warmup": 100,
    "ema": 0.995,
    "grad_clip": 10.0,
}
"""Data, search space and options of a training on the digits of scikit-learn."""
CIFAR10: dict[str, Any] = {
    "data": "CIFAR-10",
    "space": {"lr": "loguniform(1e-4,3e-3)"},
    "lr": 1e-3,
    "ema": 0.999,
    "num_workers": 4,
    "grad_clip": 100.0,
    "save_every": 5000,
    "log_every": 100,
}
"""Data, search space and options of a training on CIFAR-10."""


def excess(at_most: float) -> Claim:
    """The claim that the model's code is at most so many nats longer than the entropy."""
    return Claim("excess_nats", at_most=at_most)


def moons(at_most: float, **settings: Any) -> Variant:
    """The variant on two moons in the plane."""
    return Variant("density2d, moons", excess(at_most), {"density": "moons"} | settings)


def pinwheel8(at_most: float, **settings: Any) -> Variant:
    """The variant on a pinwheel in the plane with six normal dimensions, rotated."""
    data = "density2d, pinwheel in 8 dimensions"
    return Variant(data, excess(at_most), {"density": "pinwheel", "size": 8} | settings)


def clayton(at_most: float, **settings: Any) -> Variant:
    """The variant on the Clayton copula with known margins."""
    return Variant("tabular, Clayton in 8 dimensions", excess(at_most), {"density": "clayton", "size": 8} | settings)


def on_vectors(model: Callable[[tuple[int, ...]], Flow], density: str, size: int) -> Fit:
    """The training of a flow on fresh vectors of a known density, and its gap to the entropy.

    Args:
        model: shape (D,) -> the untrained flow.
        density: a name of `datamodules.labs.vectors`.
        size: D.
    """
    from datamodules.labs.vectors import vectors

    points = vectors(density, size)
    return Fit(model(points.shape), points, gap_to_entropy)


def on_cifar10(model: Callable[[tuple[int, ...]], Flow], data_dir: str) -> Fit:
    """The training of a flow on CIFAR-10, and the bits per dimension of held-out images.

    Args:
        model: shape (3, 32, 32) -> the untrained flow, of 256 levels.
        data_dir: folder of parquet files with the columns img and label; '' takes the hub.
    """
    from datamodules.readers.images import Images

    images = Images(name="uoft-cs/cifar10", data_dir=data_dir)
    return Fit(model(images.shape), images, bits_of_images)
