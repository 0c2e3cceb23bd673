"""Glow on CIFAR-10 at the paper's scale; needs GPUs."""

from __future__ import annotations

from ray_jobs.recipe.measures import bits_of_images
from ray_jobs.recipe.plan import Fit, Headline

system = "Glow"
data = "CIFAR-10"
headline = Headline("Kingma & Dhariwal 2018", arxiv="1807.03039", metric="bits/dim", value=3.35, where="Table 2")
claim = None
space = {"lr": "loguniform(1e-4,3e-3)"}


def recipe(
    *,
    steps: int = 1_400_000,
    batch: int = 64,
    lr: float = 1e-3,
    warmup: int = 8000,
    depth: int = 32,
    width: int = 512,
    scales: int = 3,
    smear: int = 0,
    ema: float = 0.999,
    data_dir: str = "",
    num_workers: int = 4,
) -> Fit:
    """Glow with the paper's 3 scales of 32 steps on CIFAR-10 from the Hugging Face hub.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam.
        warmup: steps over which it rises.
        depth: steps of the flow at each scale, the paper's K.
        width: channels inside the couplings' networks.
        scales: the paper's L.
        smear: channels of the networks that learn the noise of grey levels; 0: it is even, as in the paper.
        ema: decay of the weights' average.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        num_workers: processes that decode images ahead.
    """
    from datamodules.readers.images import Images
    from lightning_modules.flows.glow import Glow
    from lightning_modules.optim import Adam

    images = Images(batch=batch, name="uoft-cs/cifar10", data_dir=data_dir, num_workers=num_workers)
    model = Glow(
        images.shape,
        steps=depth,
        width=width,
        scales=scales,
        levels=256,
        dequantiser=smear,
        optim=Adam(lr, warmup=warmup),
    )
    return Fit(model, images, steps, bits_of_images, ema=ema, grad_clip=100.0, save_every=5000, log_every=100)
