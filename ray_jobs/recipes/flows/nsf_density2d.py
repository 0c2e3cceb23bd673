"""A neural spline flow on vectors of a known density: the gap to the entropy."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, Variant, fit
from ray_jobs.recipe.measures import gap_to_entropy


@fit(
    system="Spline flow",
    data="density2d, ring",
    headline=Headline("Durkan et al. 2019", arxiv="1906.04032"),
    claim=Claim("excess_nats", at_most=0.02),
    space={"lr": "loguniform(5e-4,1e-2)", "width": "choice(32,64,128)"},
    variants={
        "moons": Variant("density2d, moons", Claim("excess_nats", at_most=0.02), {"density": "moons", "steps": 1000}),
        "pinwheel8": Variant(
            "density2d, pinwheel in 8 dimensions",
            Claim("excess_nats", at_most=0.1),
            {"density": "pinwheel", "size": 8, "steps": 1000, "bins": 8},
        ),
        "clayton": Variant(
            "tabular, Clayton in 8 dimensions",
            Claim("excess_nats", at_most=0.06),
            {"density": "clayton", "size": 8, "steps": 1000, "bins": 8},
        ),
    },
    steps=4000,
    batch=512,
    lr=0.002,
    ema=0.998,
    grad_clip=1.0,
)
def nsf_density2d(
    *, batch: int, lr: float, density: str = "ring", size: int = 2, depth: int = 4, width: int = 64, bins: int = 16
) -> Fit:
    """A neural spline flow on vectors of a known density: the gap to the entropy.

    Rational-quadratic spline couplings on vectors.

    Args:
        density: 'ring', 'grid', 'pinwheel', 'checkerboard', 'rings', 'spirals', 'moons', 'banana', 'wave' or 'funnel', in more than two
            dimensions beside normal numbers and turned; or a copula, 'gaussian' or 'clayton'.
        size: dimensions; of a copula 6, 8, 21, 43 or 63.
        depth: couplings.
        width: units of each hidden layer.
        bins: pieces of each spline.
    """
    from datamodules.labs.vectors import vectors
    from lightning_modules.flows.spline import NSF

    points = vectors(density, size, batch=batch)
    model = NSF(points.shape, depth=depth, width=width, bins=bins, lr=lr, warmup=100)
    return Fit(model, points, gap_to_entropy)
