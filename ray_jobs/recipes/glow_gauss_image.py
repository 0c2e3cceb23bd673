"""Glow on images of a known Gaussian: bits per pixel above the least possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline

if TYPE_CHECKING:
    from datamodules.gauss_image import GaussImage
    from lightning_modules.flows.glow import Glow

system = "Glow"
data = "gauss_image"
headline = Headline("Kingma & Dhariwal 2018", arxiv="1807.03039")
claim = Claim("excess_bits_per_dim", at_most=0.012)
space = {"lr": "loguniform(3e-4,5e-3)", "width": "choice(16,32,64)"}


def recipe(
    *,
    steps: int = 800,
    batch: int = 128,
    lr: float = 2e-3,
    depth: int = 6,
    width: int = 24,
    scales: int = 2,
    size: int = 8,
    ema: float = 0.998,
) -> Fit:
    """Glow on smooth random images, fresh at every step.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 100 steps.
        depth: steps of the flow at each scale.
        width: channels inside the couplings' networks.
        scales: how often the image is halved.
        size: height and width of the images.
        ema: decay of the weights' average.
    """
    from datamodules.gauss_image import GaussImage
    from lightning_modules.flows.glow import Glow

    images = GaussImage(batch, size=size)
    model = Glow(images.shape, steps=depth, scales=scales, width=width, lr=lr, warmup=100)
    return Fit(model, images, steps, evaluate, ema=ema, grad_clip=10.0)


def evaluate(model: Glow, data: GaussImage) -> dict[str, float]:
    """Bits per dimension above the entropy on fresh images, and their standard error."""
    import math

    from lightning_modules.metrics import excess_nats

    x = data.test(8192)["x"].to(model.device)
    bits = x[0].numel() * math.log(2)
    mean, error = excess_nats(model.log_prob, data.log_prob, x, batch=1024)
    return {
        "excess_bits_per_dim": mean / bits,
        "excess_bits_per_dim_error": error / bits,
        "entropy_bits_per_dim": data.entropy() / bits,
    }
