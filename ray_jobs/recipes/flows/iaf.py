"""Recipes of IAF as a model of data."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe import Fit, Headline, fit
from ray_jobs.recipes.flows import shared


@fit(
    system="IAF", data="density2d, ring", headline=Headline("Kingma et al. 2016", arxiv="1606.04934"),
    claim=shared.excess(0.3), space=shared.SPACE,
    variants={
        "moons": shared.moons(0.035),
        "pinwheel8": shared.pinwheel8(1.2, depth=4, steps=400, batch=256),
        "clayton": shared.clayton(0.11, depth=4, steps=600, batch=256),
    },
    steps=1500, **shared.VECTORS,
)  # fmt: skip
def iaf_density2d(*, density: str = "ring", size: int = 2, depth: int = 6, width: int = 64) -> Fit:
    """IAF on vectors of a known density: the gap to the entropy.

    It is trained by likelihood, through its slow direction.

    Args:
        density: name of a density of the plane, in more dimensions joined by normal ones and rotated; or of a copula.
        size: dimensions; of a copula 6, 8, 21, 43 or 63.
        depth: autoregressive layers.
        width: units of each of two hidden layers.
    """
    from lightning_modules.flows.iaf import IAF

    return shared.on_vectors(partial(IAF, depth=depth, hidden=(width, width)), density, size)
