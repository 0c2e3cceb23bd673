"""Glow on handwritten digits: bits per pixel, no download."""

from __future__ import annotations

from ray_jobs.recipe.measures import bits_of_digits
from ray_jobs.recipe.plan import Claim, Fit, Headline

system = "Glow"
data = "digits"
headline = Headline("Kingma & Dhariwal 2018", arxiv="1807.03039")
claim = Claim("bits_per_dim", at_most=2.6)
space = {"lr": "loguniform(3e-4,5e-3)", "width": "choice(16,32,64)"}


def recipe(
    *,
    steps: int = 500,
    batch: int = 64,
    lr: float = 2e-3,
    depth: int = 4,
    width: int = 32,
    scales: int = 2,
    smear: int = 8,
    ema: float = 0.995,
) -> Fit:
    """Glow on the 8x8 digits of scikit-learn.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 100 steps.
        depth: steps of the flow at each scale.
        width: channels inside the couplings' networks.
        scales: how often the image is halved, 1 to 3.
        smear: channels of the networks that learn the noise of grey levels; 0: it is even.
        ema: decay of the weights' average.
    """
    from datamodules.readers.digits import LEVELS, Digits
    from lightning_modules.flows.glow import Glow
    from lightning_modules.optim import Adam

    model = Glow(
        Digits.shape,
        steps=depth,
        scales=scales,
        width=width,
        levels=LEVELS,
        dequantiser=smear,
        optim=Adam(lr, warmup=100),
    )
    return Fit(model, Digits(batch=batch), steps, bits_of_digits, ema=ema, grad_clip=10.0)
