"""MADE on tiny binary images that can all be listed: the exact divergence from the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe.plan import Claim, Fit, Headline

if TYPE_CHECKING:
    from datamodules.labs.ising import Ising
    from lightning_modules.autoregressive.made import MADE
    from lightning_modules.optim import Adam

system = "MADE"
data = "ising"
headline = Headline("Germain et al. 2015", arxiv="1502.03509")
claim = Claim("kl", at_most=0.005)
space = {"lr": "loguniform(1e-3,3e-2)", "width": "choice(32,64,128)"}


def recipe(
    *, steps: int = 2000, batch: int = 512, lr: float = 5e-3, width: int = 64, orders: int = 1, ema: float = 0.995
) -> Fit:
    """MADE with two hidden layers on 3x3 images of a spin glass without frustration.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam.
        width: units of each hidden layer.
        orders: of the bits, which take turns in training.
        ema: decay of the weights' average.
    """
    from datamodules.labs.ising import Ising
    from lightning_modules.autoregressive.made import MADE

    images = Ising(batch=batch)
    model = MADE(images.shape, hidden=(width, width), orders=orders, optim=Adam(lr))
    return Fit(model, images, steps, evaluate, ema=ema)


def evaluate(model: MADE, data: Ising) -> dict[str, float]:
    """KL from the truth in nats, over all images, and what their probabilities sum to."""
    logs = model.log_prob(data.all.to(model.device, model.dtype)).double().cpu()
    return {"kl": data.kl(logs), "mass": logs.exp().sum().item()}
