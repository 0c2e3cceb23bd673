"""MADE on tiny binary images that can all be listed: the exact divergence from the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, fit

if TYPE_CHECKING:
    from datamodules.labs.ising import Ising
    from lightning_modules.autoregressive.made import MADE


@fit(
    system="MADE",
    data="ising",
    headline=Headline("Germain et al. 2015", arxiv="1502.03509"),
    claim=Claim("kl", at_most=0.005),
    space={"lr": "loguniform(1e-3,3e-2)", "width": "choice(32,64,128)"},
    steps=2000,
    batch=512,
    lr=5e-3,
    ema=0.995,
)
def made_ising(*, batch: int, lr: float, width: int = 64, orders: int = 1) -> Fit:
    """MADE on tiny binary images that can all be listed: the exact divergence from the truth.

    MADE with two hidden layers on 3x3 images of a spin glass without frustration.

    Args:
        width: units of each hidden layer.
        orders: of the bits, which take turns in training.
    """
    from datamodules.labs.ising import Ising
    from lightning_modules.autoregressive.made import MADE

    images = Ising(batch=batch)
    model = MADE(images.shape, hidden=(width, width), orders=orders, lr=lr)
    return Fit(model, images, evaluate)


def evaluate(model: MADE, data: Ising) -> dict[str, float]:
    """KL from the truth in nats, over all images, and what their probabilities sum to."""
    logs = model.log_prob(data.all.to(model.device, model.dtype)).double().cpu()
    return {"kl": data.kl(logs), "mass": logs.exp().sum().item()}
