"""MADE on small black and white images of known probability: bits per pixel above the least possible."""

from __future__ import annotations

from ray_jobs.recipe.measures import bits_above_truth
from ray_jobs.recipe.plan import Claim, Fit, Headline, Variant

system = "MADE"
data = "lattice, 8x8 spins"
headline = Headline("Germain et al. 2015", arxiv="1502.03509")
claim = Claim("excess_bits_per_dim", at_most=0.004)
space = {"lr": "loguniform(3e-4,1e-2)", "width": "choice(100,200,400)"}
variants = {
    "prototypes": Variant("prototypes, 8x8", Claim("excess_bits_per_dim", at_most=0.01), {"images": "prototypes"}),
}


def recipe(
    *,
    images: str = "spins",
    steps: int = 1500,
    batch: int = 256,
    lr: float = 2e-3,
    width: int = 200,
    orders: int = 1,
    ema: float = 0.998,
) -> Fit:
    """MADE with two hidden layers on fresh images.

    Args:
        images: 'spins' or 'prototypes'.
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam.
        width: units of each hidden layer.
        orders: of the pixels, which take turns in training and are averaged in the likelihood.
        ema: decay of the weights' average.
    """
    from datamodules.labs import lattice
    from lightning_modules.autoregressive.made import MADE
    from lightning_modules.optim import Adam

    known = lattice.images(images, batch=batch)
    model = MADE(known.shape, hidden=(width, width), orders=orders, optim=Adam(lr))
    return Fit(model, known, steps, bits_above_truth, ema=ema)
