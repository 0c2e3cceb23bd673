"""MADE on black and white digits, in eight orders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, fit

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.autoregressive.made import MADE


@fit(
    system="MADE",
    data="binary digits",
    headline=Headline("Germain et al. 2015", arxiv="1502.03509"),
    claim=Claim("nats", at_most=18.0),
    space={"lr": "loguniform(3e-4,1e-2)", "width": "choice(100,200,500)", "orders": "choice(1,8,32)"},
    steps=1500,
    batch=100,
    lr=2e-3,
    ema=0.99,
)
def made_digits(*, batch: int, lr: float, width: int = 200, orders: int = 8) -> Fit:
    """MADE on black and white digits, in eight orders.

    MADE with one hidden layer on the 8x8 digits of scikit-learn, each pixel black or white.

    Args:
        width: hidden units.
        orders: of the pixels, which take turns in training and are averaged in the likelihood.
    """
    from datamodules.readers.digits import Digits
    from lightning_modules.autoregressive.made import MADE

    model = MADE(Digits.shape, hidden=(width,), orders=orders, lr=lr)
    return Fit(model, Digits(batch=batch, levels=2), evaluate)


def evaluate(model: MADE, data: Data) -> dict[str, float]:
    """Code length of held-out digits: nats of an image, bits of a pixel."""
    x = data.test()["x"].to(model.device)
    return {"nats": -model.log_prob(x).mean().item(), "bits_per_dim": model.bits_per_dim(x).mean().item()}
