"""MAF on a copula with known margins: the gap to the entropy."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe.measures import gap_to_entropy
from ray_jobs.recipe.plan import Claim, Fit, Headline

system = "MAF"
data = "tabular"
headline = Headline("Papamakarios et al. 2017", arxiv="1705.07057")
claim = Claim("excess_nats", at_most=0.36)
space = {"lr": "loguniform(5e-4,1e-2)", "width": "choice(32,64,128)"}


def recipe(
    *,
    like: str = "hepmass",
    copula: str = "clayton",
    steps: int = 1500,
    batch: int = 256,
    lr: float = 0.001,
    depth: int = 5,
    width: int = 128,
    ema: float = 0.998,
) -> Fit:
    """MAF on rows of numbers of known dependence.

    Args:
        like: whose dimensions: 'power' 6, 'gas' 8, 'hepmass' 21, 'miniboone' 43 or 'bsds300' 63.
        copula: 'gaussian' or 'clayton'.
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 100 steps.
        depth: autoregressive layers.
        width: units of each hidden layer.
        ema: decay of the weights' average.
    """
    from datamodules.labs.copulas import Tabular
    from lightning_modules.flows.maf import MAF
    from lightning_modules.optim import Adam

    rows = Tabular(batch=batch, like=like, copula=copula)
    model = MAF(rows.shape, depth=depth, hidden=(width, width), optim=Adam(lr, warmup=100))
    return Fit(model, rows, steps, partial(gap_to_entropy, n=20_000), ema=ema, grad_clip=1.0)
