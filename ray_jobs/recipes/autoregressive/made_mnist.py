"""MADE on binarised MNIST at the paper's scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Fit, Headline, Location, fit

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.autoregressive.made import MADE


@fit(
    system="MADE",
    data="MNIST",
    headline=Headline("Germain et al. 2015", arxiv="1502.03509", metric="nats", value=86.64),
    space={"lr": "loguniform(1e-4,3e-3)", "orders": "choice(1,8,32)"},
    steps=150_000,
    batch=100,
    lr=3e-4,
    ema=0.999,
    num_workers=4,
    save_every=5000,
    log_every=100,
)
def made_mnist(
    *, batch: int, lr: float, num_workers: int, width: int = 8000, orders: int = 32, data_dir: Location = ""
) -> Fit:
    """MADE on binarised MNIST at the paper's scale.

    MADE with two hidden layers on MNIST from the Hugging Face hub, each pixel black or white. Differs from the paper: a
    fixed threshold in place of its sampled set, and Adam in place of Adagrad.

    Args:
        width: units of each hidden layer.
        orders: of the pixels, which take turns in training and are averaged in the likelihood.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
    """
    from datamodules.binary import Binary
    from datamodules.readers.images import Images
    from lightning_modules.autoregressive.made import MADE

    images = Binary(Images(batch=batch, name="ylecun/mnist", data_dir=data_dir, num_workers=num_workers))
    model = MADE(images.shape, hidden=(width, width), orders=orders, lr=lr)
    return Fit(model, images, evaluate)


def evaluate(model: MADE, data: Data) -> dict[str, float]:
    """Code length of held-out images in nats, and in bits of a pixel."""
    import math

    x = data.test()["x"].to(model.device)
    nats = -sum(model.log_prob(part).sum().item() for part in x.split(500)) / len(x)
    return {"nats": nats, "bits_per_dim": nats / x[0].numel() / math.log(2)}
