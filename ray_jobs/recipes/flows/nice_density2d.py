"""NICE on vectors of a known density: the gap to the entropy."""

from __future__ import annotations

from ray_jobs.recipe.measures import gap_to_entropy
from ray_jobs.recipe.plan import Claim, Fit, Headline, Variant

system = "NICE"
data = "density2d, wave"
headline = Headline("Dinh et al. 2015", arxiv="1410.8516")
claim = Claim("excess_nats", at_most=0.12)
space = {"lr": "loguniform(5e-4,1e-2)", "width": "choice(32,64,128)"}
variants = {
    "moons": Variant("density2d, moons", Claim("excess_nats", at_most=0.2), {"density": "moons"}),
    "pinwheel8": Variant(
        "density2d, pinwheel in 8 dimensions", Claim("excess_nats", at_most=0.33), {"density": "pinwheel", "size": 8}
    ),
    "clayton": Variant(
        "tabular, Clayton in 8 dimensions", Claim("excess_nats", at_most=0.15), {"density": "clayton", "size": 8}
    ),
}


def recipe(
    *,
    density: str = "wave",
    size: int = 2,
    steps: int = 1000,
    batch: int = 512,
    lr: float = 0.002,
    couplings: int = 8,
    width: int = 64,
    depth: int = 2,
    ema: float = 0.998,
) -> Fit:
    """NICE on vectors, with normal noise.

    Args:
        density: 'ring', 'grid', 'pinwheel', 'checkerboard', 'rings', 'spirals', 'moons', 'banana', 'wave' or 'funnel', in more than two
            dimensions beside normal numbers and turned; or a copula, 'gaussian' or 'clayton'.
        size: dimensions; of a copula 6, 8, 21, 43 or 63.
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 100 steps.
        couplings: additive couplings.
        width: units of each hidden layer.
        depth: hidden layers of each network.
        ema: decay of the weights' average.
    """
    from datamodules.labs.vectors import vectors
    from lightning_modules.flows.flow import NORMAL
    from lightning_modules.flows.nice import NICE
    from lightning_modules.optim import Adam

    points = vectors(density, size, batch=batch)
    model = NICE(points.shape, couplings=couplings, width=width, depth=depth, base=NORMAL, optim=Adam(lr, warmup=100))
    return Fit(model, points, steps, gap_to_entropy, ema=ema, grad_clip=1.0)
