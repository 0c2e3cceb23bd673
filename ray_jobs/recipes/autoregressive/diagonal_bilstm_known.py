"""Diagonal BiLSTM on small images of known probability: bits per pixel above the least possible."""

from __future__ import annotations

from ray_jobs.recipe.measures import bits_above_truth
from ray_jobs.recipe.plan import Claim, Fit, Headline, Variant

system = "Diagonal BiLSTM"
data = "lattice, 8x8 spins"
headline = Headline("van den Oord et al. 2016", arxiv="1601.06759")
claim = Claim("excess_bits_per_dim", at_most=0.004)
space = {"lr": "loguniform(5e-4,1e-2)", "width": "choice(12,16,24)"}
variants = {
    "greys": Variant("lattice, 8x4 pixels of 4 greys", Claim("excess_bits_per_dim", at_most=0.01), {"images": "greys"}),
    "prototypes": Variant("prototypes, 8x8", Claim("excess_bits_per_dim", at_most=0.06), {"images": "prototypes"}),
}


def recipe(
    *,
    images: str = "spins",
    steps: int = 200,
    batch: int = 64,
    lr: float = 4e-3,
    width: int = 16,
    depth: int = 2,
    head: int = 32,
    ema: float = 0.99,
) -> Fit:
    """A small Diagonal BiLSTM on fresh images.

    Args:
        images: 'spins', 'greys' or 'prototypes'.
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 50 steps.
        width: h; residual layers have 2h features.
        depth: residual layers.
        head: features between the last two convolutions.
        ema: decay of the weights' average.
    """
    from datamodules.labs import lattice
    from lightning_modules.autoregressive.diagonal_bilstm import DiagonalBiLSTM
    from lightning_modules.optim import Adam

    known = lattice.images(images, batch=batch)
    model = DiagonalBiLSTM(
        known.shape, depth=depth, width=width, head=head, levels=known.levels, optim=Adam(lr, warmup=50)
    )
    return Fit(model, known, steps, bits_above_truth, ema=ema, grad_clip=1.0)
