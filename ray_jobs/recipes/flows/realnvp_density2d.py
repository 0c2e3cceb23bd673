"""RealNVP on vectors of a known density: the gap to the entropy."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, Variant, fit
from ray_jobs.recipe.measures import gap_to_entropy


@fit(
    system="RealNVP",
    data="density2d, ring",
    headline=Headline("Dinh et al. 2017", arxiv="1605.08803"),
    claim=Claim("excess_nats", at_most=0.26),
    space={"lr": "loguniform(5e-4,1e-2)", "width": "choice(32,64,128)"},
    variants={
        "moons": Variant("density2d, moons", Claim("excess_nats", at_most=0.025), {"density": "moons"}),
        "pinwheel8": Variant(
            "density2d, pinwheel in 8 dimensions",
            Claim("excess_nats", at_most=0.12),
            {"density": "pinwheel", "size": 8, "depth": 16},
        ),
        "clayton": Variant(
            "tabular, Clayton in 8 dimensions", Claim("excess_nats", at_most=0.025), {"density": "clayton", "size": 8}
        ),
    },
    steps=2000,
    batch=512,
    lr=0.002,
    ema=0.998,
    grad_clip=1.0,
)
def realnvp_density2d(
    *, batch: int, lr: float, density: str = "ring", size: int = 2, depth: int = 8, width: int = 64
) -> Fit:
    """RealNVP on vectors of a known density: the gap to the entropy.

    RealNVP on vectors.

    Args:
        density: 'ring', 'grid', 'pinwheel', 'checkerboard', 'rings', 'spirals', 'moons', 'banana', 'wave' or 'funnel', in more than two
            dimensions beside normal numbers and turned; or a copula, 'gaussian' or 'clayton'.
        size: dimensions; of a copula 6, 8, 21, 43 or 63.
        depth: couplings.
        width: units of each hidden layer.
    """
    from datamodules.labs.vectors import vectors
    from lightning_modules.flows.realnvp import RealNVP

    points = vectors(density, size, batch=batch)
    model = RealNVP(points.shape, depth=depth, width=width, lr=lr, warmup=100)
    return Fit(model, points, gap_to_entropy)
