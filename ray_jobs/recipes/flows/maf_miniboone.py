"""MAF of 5 layers on the UCI table MINIBOONE at the paper's settings."""

from __future__ import annotations

from ray_jobs.recipe.plan import Fit, Headline
from ray_jobs.recipes.flows.maf_power import on_table

system = "MAF"
data = "MINIBOONE"
headline = Headline(
    "Papamakarios et al. 2017", arxiv="1705.07057", metric="log likelihood, nats", value=-11.75, where="Table 1"
)
claim = None
space = {"lr": "loguniform(3e-5,1e-3)", "width": "choice(100,256,512)"}


def recipe(
    *,
    folder: str = "",
    steps: int = 30_000,
    batch: int = 100,
    lr: float = 1e-4,
    depth: int = 5,
    width: int = 512,
    ema: float = 0.999,
) -> Fit:
    """MAF of 5 layers with batch norm, two hidden layers of 512, on the MINIBOONE table.

    Args:
        folder: the tarball of Zenodo's record 1161203, or the folder where it lies or was unpacked.
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam.
        depth: autoregressive layers.
        width: units of each hidden layer.
        ema: decay of the weights' average.
    """
    return on_table("miniboone", folder=folder, steps=steps, batch=batch, lr=lr, depth=depth, width=width, ema=ema)
