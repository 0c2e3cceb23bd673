"""MADE on binarised MNIST at the paper's scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe.plan import Fit, Headline

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.autoregressive.made import MADE
    from lightning_modules.optim import Adam

system = "MADE"
data = "MNIST"
headline = Headline("Germain et al. 2015", arxiv="1502.03509", metric="nats", value=86.64)
claim = None
space = {"lr": "loguniform(1e-4,3e-3)", "orders": "choice(1,8,32)"}


def recipe(
    *,
    steps: int = 150_000,
    batch: int = 100,
    lr: float = 3e-4,
    width: int = 8000,
    orders: int = 32,
    ema: float = 0.999,
    data_dir: str = "",
    num_workers: int = 4,
) -> Fit:
    """MADE with two hidden layers on MNIST from the Hugging Face hub, each pixel black or white.

    Differs from the paper: a fixed threshold in place of its sampled set, and Adam in place of Adagrad.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam.
        width: units of each hidden layer.
        orders: of the pixels, which take turns in training and are averaged in the likelihood.
        ema: decay of the weights' average.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
        num_workers: processes that decode images ahead.
    """
    from datamodules.binary import Binary
    from datamodules.readers.images import Images
    from lightning_modules.autoregressive.made import MADE

    images = Binary(Images(batch=batch, name="ylecun/mnist", data_dir=data_dir, num_workers=num_workers))
    model = MADE(images.shape, hidden=(width, width), orders=orders, optim=Adam(lr))
    return Fit(model, images, steps, evaluate, ema=ema, save_every=5000, log_every=100)


def evaluate(model: MADE, data: Data) -> dict[str, float]:
    """Code length of held-out images in nats, and in bits of a pixel."""
    import math

    x = data.test()["x"].to(model.device)
    nats = -sum(model.log_prob(part).sum().item() for part in x.split(500)) / len(x)
    return {"nats": nats, "bits_per_dim": nats / x[0].numel() / math.log(2)}
