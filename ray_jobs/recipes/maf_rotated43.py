"""MAF on a density of the plane that is hidden in 43 dimensions: the gap to the entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline

if TYPE_CHECKING:
    from datamodules.density2d import Density2D
    from lightning_modules.flows.maf import MAF

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
    from datamodules.density2d import Density2D
    from lightning_modules.flows.maf import MAF

    points = Density2D(batch, name=density, size=size)
    model = MAF(points.shape, depth=depth, hidden=(width, width), lr=lr, warmup=100)
    return Fit(model, points, steps, evaluate, ema=ema, grad_clip=1.0)


def evaluate(model: MAF, data: Density2D) -> dict[str, float]:
    """KL divergence from the truth in nats on fresh points: code length above the entropy; and its standard error."""
    from lightning_modules.metrics import excess_nats

    x = data.test(20_000)["x"].to(model.device)
    mean, error = excess_nats(model.log_prob, data.log_prob, x)
    return {"excess_nats": mean, "excess_nats_error": error}
