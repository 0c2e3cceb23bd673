"""MAF on vectors of a known density: the gap to the entropy."""

from __future__ import annotations

from ray_jobs.recipe.measures import gap_to_entropy
from ray_jobs.recipe.plan import Claim, Fit, Headline, Variant

system = "MAF"
data = "density2d, ring"
headline = Headline("Papamakarios et al. 2017", arxiv="1705.07057")
claim = Claim("excess_nats", at_most=0.18)
space = {"lr": "loguniform(5e-4,1e-2)", "width": "choice(32,64,128)"}
variants = {
    "moons": Variant("density2d, moons", Claim("excess_nats", at_most=0.025), {"density": "moons"}),
    "pinwheel8": Variant(
        "density2d, pinwheel in 8 dimensions", Claim("excess_nats", at_most=0.18), {"density": "pinwheel", "size": 8}
    ),
    "clayton": Variant(
        "tabular, Clayton in 8 dimensions", Claim("excess_nats", at_most=0.03), {"density": "clayton", "size": 8}
    ),
    "mog_ring": Variant(
        "density2d, ring, by mixtures",
        Claim("excess_nats", at_most=0.02),
        {"components": 16, "depth": 1, "batch": 256, "lr": 0.004},
    ),
    "mog_grid": Variant(
        "density2d, grid, by mixtures",
        Claim("excess_nats", at_most=0.01),
        {"density": "grid", "components": 16, "depth": 1, "lr": 0.004},
    ),
    "mog_moons": Variant(
        "density2d, moons, by mixtures",
        Claim("excess_nats", at_most=0.02),
        {"density": "moons", "components": 8, "depth": 2, "batch": 256, "lr": 0.004},
    ),
}


def recipe(
    *,
    density: str = "ring",
    size: int = 2,
    steps: int = 2000,
    batch: int = 512,
    lr: float = 0.002,
    depth: int = 8,
    width: int = 64,
    components: int = 0,
    ema: float = 0.998,
) -> Fit:
    """MAF on vectors.

    Args:
        density: 'ring', 'grid', 'pinwheel', 'checkerboard', 'rings', 'spirals', 'moons', 'banana', 'wave' or 'funnel', in more than two
            dimensions beside normal numbers and turned; or a copula, 'gaussian' or 'clayton'.
        size: dimensions; of a copula 6, 8, 21, 43 or 63.
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 100 steps.
        depth: autoregressive layers.
        width: units of each hidden layer.
        components: Gaussians in each conditional of a last layer of mixtures; 0: there is none.
        ema: decay of the weights' average.
    """
    from datamodules.labs.vectors import vectors
    from lightning_modules.flows.maf import MAF
    from lightning_modules.optim import Adam

    points = vectors(density, size, batch=batch)
    model = MAF(points.shape, depth=depth, hidden=(width, width), components=components, optim=Adam(lr, warmup=100))
    return Fit(model, points, steps, gap_to_entropy, ema=ema, grad_clip=1.0)
