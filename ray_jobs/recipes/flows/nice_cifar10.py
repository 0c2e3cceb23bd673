"""NICE on CIFAR-10 at the paper's scale; needs GPUs."""

from __future__ import annotations

from ray_jobs.recipe.measures import bits_of_images
from ray_jobs.recipe.plan import Fit, Headline

system = "NICE"
data = "CIFAR-10"
headline = Headline(
    "Dinh et al. 2015", arxiv="1410.8516", metric="bits/dim", value=4.48, where="as van den Oord et al. 2016 report it"
)
claim = None
space = {"lr": "loguniform(1e-4,3e-3)"}


def recipe(
    *,
    steps: int = 300_000,
    batch: int = 200,
    lr: float = 1e-3,
    warmup: int = 1000,
    couplings: int = 4,
    width: int = 2000,
    depth: int = 4,
    ema: float = 0.999,
    data_dir: str = "",
    num_workers: int = 4,
) -> Fit:
    """NICE with the paper's four couplings of four layers on CIFAR-10 from the Hugging Face hub; the images are not whitened.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam.
        warmup: steps over which it rises.
        couplings: additive couplings.
        width: units of each hidden layer.
        depth: hidden layers of each network.
        ema: decay of the weights' average.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        num_workers: processes that decode images ahead.
    """
    from datamodules.readers.images import Images
    from lightning_modules.flows.nice import NICE
    from lightning_modules.optim import Adam

    images = Images(batch=batch, name="uoft-cs/cifar10", data_dir=data_dir, num_workers=num_workers)
    model = NICE(images.shape, couplings=couplings, width=width, depth=depth, levels=256, optim=Adam(lr, warmup=warmup))
    return Fit(model, images, steps, bits_of_images, ema=ema, grad_clip=100.0, save_every=5000, log_every=100)
