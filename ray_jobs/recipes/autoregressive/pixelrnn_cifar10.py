"""Diagonal BiLSTM on CIFAR-10 at the paper's scale; needs GPUs."""

from __future__ import annotations

from ray_jobs.recipe.measures import exact_bits_of_images
from ray_jobs.recipe.plan import Fit, Headline

system = "Diagonal BiLSTM"
data = "CIFAR-10"
headline = Headline("van den Oord et al. 2016", arxiv="1601.06759", metric="bits_per_dim", value=3.00, where="Table 5")
claim = None
space = {"lr": "loguniform(1e-4,2e-3)"}


def recipe(
    *,
    steps: int = 500_000,
    batch: int = 16,
    lr: float = 3e-4,
    warmup: int = 1000,
    width: int = 128,
    depth: int = 12,
    head: int = 1024,
    ema: float = 0.999,
    data_dir: str = "",
    num_workers: int = 4,
) -> Fit:
    """Diagonal BiLSTM of the paper's size on CIFAR-10 from the Hugging Face hub, all 256 values of three colours.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam.
        warmup: steps over which it rises.
        width: h; residual layers have 2h features.
        depth: residual layers.
        head: features between the last two convolutions.
        ema: decay of the weights' average.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
        num_workers: processes that decode images ahead.
    """
    from datamodules.readers.images import Images
    from lightning_modules.autoregressive.diagonal_bilstm import DiagonalBiLSTM
    from lightning_modules.optim import Adam

    images = Images(batch=batch, name="uoft-cs/cifar10", data_dir=data_dir, num_workers=num_workers)
    model = DiagonalBiLSTM(images.shape, depth=depth, width=width, head=head, optim=Adam(lr, warmup=warmup))
    return Fit(model, images, steps, exact_bits_of_images, ema=ema, grad_clip=1.0, save_every=5000, log_every=100)
