"""MAF on a density of the plane that is hidden in 43 dimensions: the gap to the entropy."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe.measures import gap_to_entropy
from ray_jobs.recipe.plan import Claim, Fit, Headline

system = "MAF"
data = "density2d, rotated"
headline = Headline("Papamakarios et al. 2017", arxiv="1705.07057")
claim = Claim("excess_nats", at_most=0.95)
space = {"lr": "loguniform(5e-4,1e-2)", "width": "choice(32,64,128)"}


def recipe(
    *,
    density: str = "pinwheel",
    size: int = 43,
    steps: int = 1500,
    batch: int = 256,
    lr: float = 0.001,
    depth: int = 5,
    width: int = 128,
    ema: float = 0.998,
) -> Fit:
    """MAF on the plane's points beside independent normal numbers, all turned.

    Args:
        density: 'ring', 'grid', 'pinwheel', 'checkerboard', 'rings', 'spirals', 'moons', 'banana', 'wave' or 'funnel'.
        size: dimensions.
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 100 steps.
        depth: autoregressive layers.
        width: units of each hidden layer.
        ema: decay of the weights' average.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.flows.maf import MAF
    from lightning_modules.optim import Adam

    points = Density2D(batch=batch, name=density, size=size)
    model = MAF(points.shape, depth=depth, hidden=(width, width), optim=Adam(lr, warmup=100))
    return Fit(model, points, steps, partial(gap_to_entropy, n=20_000), ema=ema, grad_clip=1.0)
