"""Recipes of MADE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, Location, Variant, fit
from ray_jobs.recipe.measures import bits_above_truth

if TYPE_CHECKING:
    from datamodules.base import Data
    from datamodules.labs.ising import Ising
    from lightning_modules.autoregressive.made import MADE

PAPER = Headline("Germain et al. 2015", arxiv="1502.03509")


@fit(
    system="MADE", data="lattice, 8x8 spins", headline=PAPER, claim=Claim("excess_bits_per_dim", at_most=0.004),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(100,200,400)"},
    variants={
        "prototypes": Variant("prototypes, 8x8", Claim("excess_bits_per_dim", at_most=0.01), {"images": "prototypes"}),
    },
    steps=1500, batch=256, lr=2e-3, ema=0.998,
)  # fmt: skip
def made_known(*, images: str = "spins", width: int = 200, orders: int = 1) -> Fit:
    """MADE on fresh black and white images of known probability: bits per pixel above the least possible.

    Args:
        images: 'spins' or 'prototypes'.
        width: units of each of two hidden layers.
        orders: of the pixels, one of which is drawn for each step; the likelihood is their average.
    """
    from datamodules.labs import lattice
    from lightning_modules.autoregressive.made import MADE

    known = lattice.images(images)
    return Fit(MADE(known.shape, hidden=(width, width), orders=orders), known, bits_above_truth)


@fit(
    system="MADE", data="ising", headline=PAPER, claim=Claim("kl", at_most=0.005),
    space={"lr": "loguniform(1e-3,3e-2)", "width": "choice(32,64,128)"}, steps=2000, batch=512, lr=5e-3, ema=0.995,
)  # fmt: skip
def made_ising(*, width: int = 64, orders: int = 1) -> Fit:
    """MADE on tiny binary images that can all be listed: the exact divergence from the truth.

    The images are of 3x3 spins in an Ising model.

    Args:
        width: units of each of two hidden layers.
        orders: of the bits, one of which is drawn for each step.
    """
    from datamodules.labs.ising import Ising
    from lightning_modules.autoregressive.made import MADE

    images = Ising()
    return Fit(MADE(images.shape, hidden=(width, width), orders=orders), images, divergence)


@fit(
    system="MADE", data="binary digits, writers shared by both parts", headline=PAPER, claim=Claim("nats", at_most=18.0),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(100,200,500)", "orders": "choice(1,8,32)"}, steps=1500,
    batch=100, lr=2e-3, ema=0.99,
)  # fmt: skip
def made_digits(*, width: int = 200, orders: int = 8) -> Fit:
    """MADE on black and white digits, in eight orders.

    Args:
        width: units of the hidden layer.
        orders: of the pixels, one of which is drawn for each step; the likelihood is their average.
    """
    from datamodules.readers.digits import Digits
    from lightning_modules.autoregressive.made import MADE

    return Fit(MADE(Digits.shape, hidden=(width,), orders=orders), Digits(levels=2), code_length)


@fit(
    system="MADE", data="MNIST",
    headline=Headline("Germain et al. 2015", arxiv="1502.03509", metric="nats", value=86.64),
    space={"lr": "loguniform(1e-4,3e-3)", "orders": "choice(1,8,32)"}, steps=150_000, batch=100, lr=3e-4, ema=0.999,
    num_workers=4, save_every=5000, log_every=100,
)  # fmt: skip
def made_mnist(*, width: int = 8000, orders: int = 32, data_dir: Location = "") -> Fit:
    """MADE with two hidden layers on binarised MNIST at the paper's scale.

    Differs from the paper: pixels become black or white by a fixed threshold, not by sampling, and Adam replaces Adagrad.

    Args:
        width: units of each hidden layer.
        orders: of the pixels, one of which is drawn for each step; the likelihood is their average.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
    """
    from datamodules.binary import Binary
    from datamodules.readers.images import Images
    from lightning_modules.autoregressive.made import MADE

    images = Binary(Images(name="ylecun/mnist", data_dir=data_dir))
    return Fit(MADE(images.shape, hidden=(width, width), orders=orders), images, code_length)


def divergence(model: MADE, data: Ising) -> dict[str, float]:
    """KL from the truth in nats, over all images, and the sum of their probabilities."""
    logs = model.log_prob(data.all.to(model.device, model.dtype)).double().cpu()
    return {"kl": data.kl(logs), "mass": logs.exp().sum().item()}


def code_length(model: MADE, data: Data) -> dict[str, float]:
    """Code length of the held-out images: nats per image, and bits per pixel."""
    import math

    x = data.test()["x"].to(model.device)
    nats = -sum(model.log_prob(part).sum().item() for part in x.split(500)) / len(x)
    return {"nats": nats, "bits_per_dim": nats / x[0].numel() / math.log(2)}
