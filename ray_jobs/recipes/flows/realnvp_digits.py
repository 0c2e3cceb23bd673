"""RealNVP on handwritten digits: bits per pixel, no download."""

from __future__ import annotations

from ray_jobs.recipe.measures import bits_of_digits
from ray_jobs.recipe.plan import Claim, Fit, Headline

system = "RealNVP"
data = "digits"
headline = Headline("Dinh et al. 2017", arxiv="1605.08803")
claim = Claim("bits_per_dim", at_most=2.15)
space = {"lr": "loguniform(3e-4,5e-3)", "width": "choice(16,32,64)"}


def recipe(
    *,
    steps: int = 300,
    batch: int = 64,
    lr: float = 1e-3,
    depth: int = 1,
    width: int = 24,
    scales: int = 2,
    smear: int = 8,
    ema: float = 0.995,
) -> Fit:
    """RealNVP on the 8x8 digits of scikit-learn.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 100 steps.
        depth: residual blocks in each coupling's network.
        width: channels at full resolution.
        scales: of the image, 1 to 4.
        smear: channels of the networks that learn the noise of grey levels; 0: it is even.
        ema: decay of the weights' average.
    """
    from datamodules.readers.digits import LEVELS, Digits
    from lightning_modules.flows.realnvp import RealNVP
    from lightning_modules.optim import Adam

    model = RealNVP(
        Digits.shape,
        depth=depth,
        scales=scales,
        width=width,
        levels=LEVELS,
        dequantiser=smear,
        optim=Adam(lr, warmup=100),
    )
    return Fit(model, Digits(batch=batch), steps, bits_of_digits, ema=ema, grad_clip=10.0)
