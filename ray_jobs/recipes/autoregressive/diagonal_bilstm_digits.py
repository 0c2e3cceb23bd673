"""Diagonal BiLSTM on handwritten digits of few grey levels: exact bits per pixel, no download."""

from __future__ import annotations

from ray_jobs.recipe.measures import exact_bits_of_digits
from ray_jobs.recipe.plan import Claim, Fit, Headline

system = "Diagonal BiLSTM"
data = "digits, 4 levels"
headline = Headline("van den Oord et al. 2016", arxiv="1601.06759")
claim = Claim("bits_per_dim", at_most=0.85)
space = {"lr": "loguniform(5e-4,1e-2)", "width": "choice(12,16,24)"}


def recipe(
    *,
    steps: int = 400,
    batch: int = 50,
    lr: float = 4e-3,
    width: int = 16,
    depth: int = 2,
    head: int = 32,
    levels: int = 4,
    ema: float = 0.99,
) -> Fit:
    """A small Diagonal BiLSTM on the 8x8 digits of scikit-learn.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 50 steps.
        width: h; residual layers have 2h features.
        depth: residual layers.
        head: features between the last two convolutions.
        levels: of grey; 17 are all that the digits have.
        ema: decay of the weights' average.
    """
    from datamodules.readers.digits import Digits
    from lightning_modules.autoregressive.diagonal_bilstm import DiagonalBiLSTM
    from lightning_modules.optim import Adam

    model = DiagonalBiLSTM(Digits.shape, depth=depth, width=width, head=head, levels=levels, optim=Adam(lr, warmup=50))
    return Fit(model, Digits(batch=batch, levels=levels), steps, exact_bits_of_digits, ema=ema, grad_clip=1.0)
