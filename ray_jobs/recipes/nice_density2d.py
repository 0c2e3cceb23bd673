"""NICE on a known density of the plane: the gap to the entropy."""

from __future__ import annotations

from ray_jobs.measures import gap_to_entropy
from ray_jobs.recipe import Claim, Fit, Headline

system = "NICE"
data = "density2d"
headline = Headline("Dinh et al. 2015", arxiv="1410.8516")
claim = Claim("excess_nats", at_most=0.12)
space = {"lr": "loguniform(5e-4,1e-2)", "width": "choice(32,64,128)"}


def recipe(
    *,
    density: str = "wave",
    steps: int = 1000,
    batch: int = 512,
    lr: float = 0.002,
    couplings: int = 8,
    width: int = 64,
    depth: int = 2,
    ema: float = 0.998,
) -> Fit:
    """NICE on points of the plane, with normal noise.

    Args:
        density: 'ring', 'grid', 'pinwheel', 'checkerboard', 'rings', 'spirals', 'moons', 'banana', 'wave' or 'funnel'.
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 100 steps.
        couplings: additive couplings.
        width: units of each hidden layer.
        depth: hidden layers of each network.
        ema: decay of the weights' average.
    """
    from datamodules.density2d import Density2D
    from lightning_modules.flows.flow import NORMAL
    from lightning_modules.flows.nice import NICE

    points = Density2D(batch, name=density)
    model = NICE(points.shape, couplings=couplings, width=width, depth=depth, base=NORMAL, lr=lr, warmup=100)
    return Fit(model, points, steps, gap_to_entropy, ema=ema, grad_clip=1.0)
