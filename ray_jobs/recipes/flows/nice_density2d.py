"""NICE on vectors of a known density: the gap to the entropy."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, Variant, fit
from ray_jobs.recipe.measures import gap_to_entropy


@fit(
    system="NICE",
    data="density2d, wave",
    headline=Headline("Dinh et al. 2015", arxiv="1410.8516"),
    claim=Claim("excess_nats", at_most=0.12),
    space={"lr": "loguniform(5e-4,1e-2)", "width": "choice(32,64,128)"},
    variants={
        "moons": Variant("density2d, moons", Claim("excess_nats", at_most=0.2), {"density": "moons"}),
        "pinwheel8": Variant(
            "density2d, pinwheel in 8 dimensions",
            Claim("excess_nats", at_most=0.33),
            {"density": "pinwheel", "size": 8},
        ),
        "clayton": Variant(
            "tabular, Clayton in 8 dimensions", Claim("excess_nats", at_most=0.15), {"density": "clayton", "size": 8}
        ),
    },
    steps=1000,
    batch=512,
    lr=0.002,
    ema=0.998,
    grad_clip=1.0,
)
def nice_density2d(
    *, batch: int, lr: float, density: str = "wave", size: int = 2, couplings: int = 8, width: int = 64, depth: int = 2
) -> Fit:
    """NICE on vectors of a known density: the gap to the entropy.

    NICE on vectors, with normal noise.

    Args:
        density: 'ring', 'grid', 'pinwheel', 'checkerboard', 'rings', 'spirals', 'moons', 'banana', 'wave' or 'funnel', in more than two
            dimensions beside normal numbers and turned; or a copula, 'gaussian' or 'clayton'.
        size: dimensions; of a copula 6, 8, 21, 43 or 63.
        couplings: additive couplings.
        width: units of each hidden layer.
        depth: hidden layers of each network.
    """
    from datamodules.labs.vectors import vectors
    from lightning_modules.flows.flow import NORMAL
    from lightning_modules.flows.nice import NICE

    points = vectors(density, size, batch=batch)
    model = NICE(points.shape, couplings=couplings, width=width, depth=depth, base=NORMAL, lr=lr, warmup=100)
    return Fit(model, points, gap_to_entropy)
