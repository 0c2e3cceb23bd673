"""Recipes of RealNVP."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe import Claim, Fit, Headline, Location, fit
from ray_jobs.recipe.measures import bits_of_digits
from ray_jobs.recipes.flows import shared


@fit(
    system="RealNVP", data="density2d, ring", headline=Headline("Dinh et al. 2017", arxiv="1605.08803"),
    claim=shared.excess(0.26), space=shared.SPACE,
    variants={
        "moons": shared.moons(0.025),
        "pinwheel8": shared.pinwheel8(0.12, depth=16),
        "clayton": shared.clayton(0.03),
    },
    steps=2000, **shared.VECTORS,
)  # fmt: skip
def realnvp_density2d(*, density: str = "ring", size: int = 2, depth: int = 8, width: int = 64) -> Fit:
    """RealNVP on vectors of a known density: the gap to the entropy.

    Args:
        density: name of a density of the plane, in more dimensions joined by normal ones and rotated; or of a copula.
        size: dimensions; of a copula 6, 8, 21, 43 or 63.
        depth: couplings.
        width: units of each of two hidden layers.
    """
    from lightning_modules.flows.realnvp import RealNVP

    return shared.on_vectors(partial(RealNVP, depth=depth, width=width), density, size)


@fit(
    system="RealNVP", headline=Headline("Dinh et al. 2017", arxiv="1605.08803"),
    claim=Claim("bits_per_dim", at_most=2.15), steps=300, lr=1e-3, **shared.DIGITS,
)  # fmt: skip
def realnvp_digits(*, depth: int = 1, width: int = 24, scales: int = 2, dequantiser: int = 8) -> Fit:
    """RealNVP on handwritten digits: bits per pixel, no download.

    Args:
        depth: residual blocks in each coupling's network.
        width: channels at full resolution.
        scales: of the image, 1 to 4.
        dequantiser: channels of the networks that learn the noise of grey levels; 0: it is uniform.
    """
    from datamodules.readers.digits import LEVELS, Digits
    from lightning_modules.flows.realnvp import RealNVP

    model = RealNVP(Digits.shape, depth=depth, scales=scales, width=width, levels=LEVELS, dequantiser=dequantiser)
    return Fit(model, Digits(), bits_of_digits)


@fit(
    system="RealNVP",
    headline=Headline("Dinh et al. 2017", "1605.08803", metric="bits/dim", value=3.49, where="Table 1"), steps=500_000,
    batch=64, warmup=1000, **shared.CIFAR10,
)  # fmt: skip
def realnvp_cifar10(
    *, depth: int = 8, width: int = 64, scales: int = 2, dequantiser: int = 0, data_dir: Location = ""
) -> Fit:
    """RealNVP on CIFAR-10 at the paper's scale; needs GPUs.

    The paper's eight residual blocks of 64 channels.

    Args:
        depth: residual blocks in each coupling's network.
        width: channels at full resolution.
        scales: of the image.
        dequantiser: channels of the networks that learn the noise of grey levels; 0: it is uniform, as in the paper.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
    """
    from lightning_modules.flows.realnvp import RealNVP

    model = partial(RealNVP, depth=depth, width=width, scales=scales, levels=256, dequantiser=dequantiser)
    return shared.on_cifar10(model, data_dir)
