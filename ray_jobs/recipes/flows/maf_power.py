"""MAF of 10 layers on the UCI table POWER at the paper's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe.plan import Fit, Headline

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.flows.maf import MAF
    from lightning_modules.optim import Adam

system = "MAF"
data = "POWER"
headline = Headline(
    "Papamakarios et al. 2017", arxiv="1705.07057", metric="log likelihood, nats", value=0.24, where="Table 1"
)
claim = None
space = {"lr": "loguniform(3e-5,1e-3)", "width": "choice(100,256,512)"}


def recipe(
    *,
    folder: str = "",
    steps: int = 500_000,
    batch: int = 100,
    lr: float = 1e-4,
    depth: int = 10,
    width: int = 100,
    ema: float = 0.999,
) -> Fit:
    """MAF of 10 layers with batch norm, two hidden layers of 100, on the POWER table.

    Args:
        folder: the tarball of Zenodo's record 1161203, or the folder where it lies or was unpacked.
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam.
        depth: autoregressive layers.
        width: units of each hidden layer.
        ema: decay of the weights' average.
    """
    return on_table("power", folder=folder, steps=steps, batch=batch, lr=lr, depth=depth, width=width, ema=ema)


def on_table(name: str, *, folder: str, steps: int, batch: int, lr: float, depth: int, width: int, ema: float) -> Fit:
    """MAF on one of the five tables; no early stopping on the validation rows, but an average of the weights."""
    from datamodules.readers.uci import UCI
    from lightning_modules.flows.maf import MAF

    rows = UCI(name, folder, batch=batch)
    model = MAF(rows.shape, depth=depth, hidden=(width, width), norm=True, optim=Adam(lr))
    return Fit(model, rows, steps, evaluate, ema=ema, grad_clip=100.0, save_every=5000, log_every=100)


def evaluate(model: MAF, data: Data) -> dict[str, float]:
    """Mean log likelihood of the held-out rows in nats, and its standard error."""
    import torch

    logs = torch.cat([model.log_prob(part.to(model.device)) for part in data.test()["x"].split(4096)])
    return {"log_likelihood": logs.mean().item(), "log_likelihood_error": (logs.std() / len(logs) ** 0.5).item()}
