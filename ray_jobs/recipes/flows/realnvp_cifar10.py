"""RealNVP on CIFAR-10 at the paper's scale; needs GPUs."""

from __future__ import annotations

from ray_jobs.recipe.measures import bits_of_images
from ray_jobs.recipe.plan import Fit, Headline

system = "RealNVP"
data = "CIFAR-10"
headline = Headline("Dinh et al. 2017", arxiv="1605.08803", metric="bits/dim", value=3.49, where="Table 1")
claim = None
space = {"lr": "loguniform(1e-4,3e-3)"}


def recipe(
    *,
    steps: int = 500_000,
    batch: int = 64,
    lr: float = 1e-3,
    warmup: int = 1000,
    depth: int = 8,
    width: int = 64,
    scales: int = 2,
    smear: int = 0,
    ema: float = 0.999,
    data_dir: str = "",
    num_workers: int = 4,
) -> Fit:
    """RealNVP with the paper's eight residual blocks of 64 channels on CIFAR-10 from the Hugging Face hub.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam.
        warmup: steps over which it rises.
        depth: residual blocks in each coupling's network.
        width: channels at full resolution.
        scales: of the image.
        smear: channels of the networks that learn the noise of grey levels; 0: it is even, as in the paper.
        ema: decay of the weights' average.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        num_workers: processes that decode images ahead.
    """
    from datamodules.readers.images import Images
    from lightning_modules.flows.realnvp import RealNVP
    from lightning_modules.optim import Adam

    images = Images(batch=batch, name="uoft-cs/cifar10", data_dir=data_dir, num_workers=num_workers)
    model = RealNVP(
        images.shape,
        depth=depth,
        width=width,
        scales=scales,
        levels=256,
        dequantiser=smear,
        optim=Adam(lr, warmup=warmup),
    )
    return Fit(model, images, steps, bits_of_images, ema=ema, grad_clip=100.0, save_every=5000, log_every=100)
