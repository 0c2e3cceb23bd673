"""Glow on images of a known density: bits per pixel above the least possible."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe.measures import bits_above_truth
from ray_jobs.recipe.plan import Claim, Fit, Headline, Variant

system = "Glow"
data = "gauss_image"
headline = Headline("Kingma & Dhariwal 2018", arxiv="1807.03039")
claim = Claim("excess_bits_per_dim", at_most=0.012)
space = {"lr": "loguniform(3e-4,5e-3)", "width": "choice(16,32,64)"}
variants = {
    "textures": Variant("textures", Claim("excess_bits_per_dim", at_most=0.23), {"images": "textures", "steps": 400}),
    "peaked": Variant(
        "gauss_image, peaked", Claim("excess_bits_per_dim", at_most=0.14), {"images": "peaked", "steps": 400}
    ),
}


def recipe(
    *,
    images: str = "smooth",
    steps: int = 800,
    batch: int = 128,
    lr: float = 2e-3,
    depth: int = 6,
    width: int = 24,
    scales: int = 2,
    size: int = 8,
    ema: float = 0.998,
) -> Fit:
    """Glow on random images, fresh at every step.

    Args:
        images: 'smooth', 'textures' or 'peaked'.
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 100 steps.
        depth: steps of the flow at each scale.
        width: channels inside the couplings' networks.
        scales: how often the image is halved.
        size: height and width of the images.
        ema: decay of the weights' average.
    """
    from datamodules.labs import textures
    from lightning_modules.flows.glow import Glow
    from lightning_modules.optim import Adam

    known = textures.images(images, size, batch=batch)
    model = Glow(known.shape, steps=depth, scales=scales, width=width, optim=Adam(lr, warmup=100))
    return Fit(model, known, steps, partial(bits_above_truth, n=8192), ema=ema, grad_clip=10.0)
