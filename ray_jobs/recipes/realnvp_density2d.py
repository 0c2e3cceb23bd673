"""RealNVP on a known density of the plane: the gap to the entropy."""

from __future__ import annotations

from ray_jobs.measures import gap_to_entropy
from ray_jobs.recipe import Claim, Fit, Headline

system = "RealNVP"
data = "density2d"
headline = Headline("Dinh et al. 2017", arxiv="1605.08803")
claim = Claim("excess_nats", at_most=0.26)
space = {"lr": "loguniform(5e-4,1e-2)", "width": "choice(32,64,128)"}


def recipe(
    *,
    density: str = "ring",
    steps: int = 2000,
    batch: int = 512,
    lr: float = 0.002,
    depth: int = 8,
    width: int = 64,
    ema: float = 0.998,
) -> Fit:
    """RealNVP on points of the plane.

    Args:
        density: 'ring', 'grid', 'pinwheel', 'checkerboard', 'rings', 'spirals', 'moons', 'banana', 'wave' or 'funnel'.
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 100 steps.
        depth: couplings.
        width: units of each hidden layer.
        ema: decay of the weights' average.
    """
    from datamodules.density2d import Density2D
    from lightning_modules.flows.realnvp import RealNVP

    points = Density2D(batch, name=density)
    model = RealNVP(points.shape, depth=depth, width=width, lr=lr, warmup=100)
    return Fit(model, points, steps, gap_to_entropy, ema=ema, grad_clip=1.0)
