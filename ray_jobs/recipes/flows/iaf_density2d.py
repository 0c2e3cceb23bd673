"""IAF on vectors of a known density: the gap to the entropy."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, Variant, fit
from ray_jobs.recipe.measures import gap_to_entropy


@fit(
    system="IAF",
    data="density2d, ring",
    headline=Headline("Kingma et al. 2016", arxiv="1606.04934"),
    claim=Claim("excess_nats", at_most=0.3),
    space={"lr": "loguniform(5e-4,1e-2)", "width": "choice(32,64,128)"},
    variants={
        "moons": Variant("density2d, moons", Claim("excess_nats", at_most=0.035), {"density": "moons"}),
        "pinwheel8": Variant(
            "density2d, pinwheel in 8 dimensions",
            Claim("excess_nats", at_most=1.2),
            {"density": "pinwheel", "size": 8, "depth": 4, "steps": 400, "batch": 256},
        ),
        "clayton": Variant(
            "tabular, Clayton in 8 dimensions",
            Claim("excess_nats", at_most=0.11),
            {"density": "clayton", "size": 8, "depth": 4, "steps": 600, "batch": 256},
        ),
    },
    steps=1500,
    batch=512,
    lr=0.002,
    ema=0.998,
    grad_clip=1.0,
)
def iaf_density2d(
    *, batch: int, lr: float, density: str = "ring", size: int = 2, depth: int = 6, width: int = 64
) -> Fit:
    """IAF on vectors of a known density: the gap to the entropy.

    IAF on vectors, trained by likelihood through its slow direction.

    Args:
        density: 'ring', 'grid', 'pinwheel', 'checkerboard', 'rings', 'spirals', 'moons', 'banana', 'wave' or 'funnel', in more than two
            dimensions beside normal numbers and turned; or a copula, 'gaussian' or 'clayton'.
        size: dimensions; of a copula 6, 8, 21, 43 or 63.
        depth: autoregressive layers.
        width: units of each hidden layer.
    """
    from datamodules.labs.vectors import vectors
    from lightning_modules.flows.iaf import IAF

    points = vectors(density, size, batch=batch)
    model = IAF(points.shape, depth=depth, hidden=(width, width), lr=lr, warmup=100)
    return Fit(model, points, gap_to_entropy)
