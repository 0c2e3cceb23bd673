"""Recipes of neural spline flows."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe import Fit, Headline, fit
from ray_jobs.recipes.flows import shared


@fit(
    system="Spline flow", data="density2d, ring", headline=Headline("Durkan et al. 2019", arxiv="1906.04032"),
    claim=shared.excess(0.02), space=shared.SPACE,
    variants={
        "moons": shared.moons(0.02, steps=1000),
        "pinwheel8": shared.pinwheel8(0.1, steps=1000, bins=8),
        "clayton": shared.clayton(0.06, steps=1000, bins=8),
    },
    steps=4000, **shared.VECTORS,
)  # fmt: skip
def nsf_density2d(*, density: str = "ring", size: int = 2, depth: int = 4, width: int = 64, bins: int = 16) -> Fit:
    """A neural spline flow on vectors of a known density: the gap to the entropy.

    Args:
        density: name of a density of the plane, in more dimensions joined by normal ones and rotated; or of a copula.
        size: dimensions; of a copula 6, 8, 21, 43 or 63.
        depth: couplings.
        width: units of each of two hidden layers.
        bins: of each spline.
    """
    from lightning_modules.flows.nsf import NSF

    return shared.on_vectors(partial(NSF, depth=depth, width=width, bins=bins), density, size)
