"""MADE on small black and white images of known probability: bits per pixel above the least possible."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, Variant, fit
from ray_jobs.recipe.measures import bits_above_truth


@fit(
    system="MADE",
    data="lattice, 8x8 spins",
    headline=Headline("Germain et al. 2015", arxiv="1502.03509"),
    claim=Claim("excess_bits_per_dim", at_most=0.004),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(100,200,400)"},
    variants={
        "prototypes": Variant("prototypes, 8x8", Claim("excess_bits_per_dim", at_most=0.01), {"images": "prototypes"}),
    },
    steps=1500,
    batch=256,
    lr=2e-3,
    ema=0.998,
)
def made_known(*, batch: int, lr: float, images: str = "spins", width: int = 200, orders: int = 1) -> Fit:
    """MADE on small black and white images of known probability: bits per pixel above the least possible.

    MADE with two hidden layers on fresh images.

    Args:
        images: 'spins' or 'prototypes'.
        width: units of each hidden layer.
        orders: of the pixels, which take turns in training and are averaged in the likelihood.
    """
    from datamodules.labs import lattice
    from lightning_modules.autoregressive.made import MADE

    known = lattice.images(images, batch=batch)
    model = MADE(known.shape, hidden=(width, width), orders=orders, lr=lr)
    return Fit(model, known, bits_above_truth)
