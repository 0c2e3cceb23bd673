"""Recipes of NICE."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe import Fit, Headline, Location, fit
from ray_jobs.recipes.flows import shared


@fit(
    system="NICE", data="density2d, wave", headline=Headline("Dinh et al. 2015", arxiv="1410.8516"),
    claim=shared.excess(0.12), space=shared.SPACE,
    variants={
        "moons": shared.moons(0.2),
        "pinwheel8": shared.pinwheel8(0.43),
        "clayton": shared.clayton(0.15),
    },
    steps=1000, **shared.VECTORS,
)  # fmt: skip
def nice_density2d(*, density: str = "wave", size: int = 2, couplings: int = 8, width: int = 64, depth: int = 2) -> Fit:
    """NICE with normal noise on vectors of a known density: the gap to the entropy.

    Args:
        density: name of a density of the plane, in more dimensions joined by normal ones and rotated; or of a copula.
        size: dimensions; of a copula 6, 8, 21, 43 or 63.
        couplings: additive couplings.
        width: units of each hidden layer.
        depth: hidden layers of each network.
    """
    from lightning_modules.flows.flow import NORMAL
    from lightning_modules.flows.nice import NICE

    return shared.on_vectors(partial(NICE, couplings=couplings, width=width, depth=depth, base=NORMAL), density, size)


@fit(
    system="NICE",
    headline=Headline("Dinh et al. 2015", "1410.8516", metric="bits/dim", value=4.48,
                      where="as van den Oord et al. 2016 report it"),
    steps=300_000, batch=200, warmup=1000, **shared.CIFAR10,
)  # fmt: skip
def nice_cifar10(*, couplings: int = 4, width: int = 2000, depth: int = 4, data_dir: Location = "") -> Fit:
    """NICE on CIFAR-10 at the paper's scale; needs GPUs.

    The paper's four couplings of four layers; the images are not whitened.

    Args:
        couplings: additive couplings.
        width: units of each hidden layer.
        depth: hidden layers of each network.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
    """
    from lightning_modules.flows.nice import NICE

    return shared.on_cifar10(partial(NICE, couplings=couplings, width=width, depth=depth, levels=256), data_dir)
