"""A neural spline flow on a known density of the plane: within a fiftieth of a nat of the entropy."""

from __future__ import annotations

from ray_jobs.measures import gap_to_entropy
from ray_jobs.recipe import Claim, Fit, Headline

system = "Spline flow"
data = "density2d"
headline = Headline("Durkan et al. 2019", arxiv="1906.04032")
claim = Claim("excess_nats", at_most=0.02)
space = {"lr": "loguniform(5e-4,1e-2)", "width": "choice(32,64,128)"}


def recipe(
    *,
    density: str = "ring",
    steps: int = 4000,
    batch: int = 512,
    lr: float = 0.002,
    depth: int = 4,
    width: int = 64,
    bins: int = 16,
    ema: float = 0.998,
) -> Fit:
    """Rational-quadratic spline couplings on points of the plane.

    Args:
        density: 'ring', 'grid', 'pinwheel', 'checkerboard', 'rings', 'spirals', 'moons', 'banana', 'wave' or 'funnel'.
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 100 steps.
        depth: couplings.
        width: units of each hidden layer.
        bins: pieces of each spline.
        ema: decay of the weights' average.
    """
    from datamodules.density2d import Density2D
    from lightning_modules.flows.spline import NSF

    points = Density2D(batch, name=density)
    model = NSF(points.shape, depth=depth, width=width, bins=bins, lr=lr, warmup=100)
    return Fit(model, points, steps, gap_to_entropy, ema=ema, grad_clip=1.0)
