"""A recipe of pictures that trains in a moment: independent Gaussian pixels, whose mean passes the best value on its way."""

from __future__ import annotations

import random

import torch

from datamodules.base import Data, table
from lightning_modules.dropout import Dropout
from lightning_modules.model import Generative
from lightning_modules.optim import Adam
from ray_jobs.recipe import Claim, Fit, Headline, Recipe


class Painter(Generative):
    """Pixels N(mean, deviation^2).

    Args:
        careless: whether the loss depends on Python's own random numbers.
        hide: conditions that it can be guided by.
    """

    def __init__(self, shape=(1, 8, 8), careless: bool = False, hide=()) -> None:
        super().__init__()
        self.shape, self.careless, self.hide, self.optim = shape, careless, dict.fromkeys(hide, 0.1), Adam(0.05)
        self.mean, self.log_std = (torch.nn.Parameter(torch.full(shape, start)) for start in (-0.5, -2.0))
        self.dropout, self.asked = Dropout(0.1), []

    def losses(self, batch):
        z = self.dropout((batch["x"] - self.mean) * (-self.log_std).exp())
        push = random.random() if self.careless else 1.0
        return {"nats": (0.5 * z.square() + self.log_std).mean() * push}

    @torch.no_grad()
    def sample(self, n, cond=None, *, rng=None):
        self.asked.append(cond)
        z = torch.randn(n, *self.shape, generator=rng, device=self.device)
        return self.mean + self.log_std.exp() * z


class Pictures(Data):
    """Grey or coloured pictures [N, C, S, S] of noise around 0.3."""

    levels = 256

    def __init__(self, shape=(1, 8, 8), n: int = 1300, held: int = 40) -> None:
        super().__init__(batch=16)
        rng = torch.Generator().manual_seed(0)
        x = (0.3 + 0.2 * torch.randn(n + held, *shape, generator=rng)).clamp(-1, 1)
        self.shape, self.source, self.held = shape, table(x=x[:n]), x[n:]

    def test(self, n=None):
        return {"x": self.held[:n]}


def build(*, side: int = 8, flat: bool = False, n: int = 1300, held: int = 40, careless: bool = False) -> Fit:
    """Pictures.

    Args:
        side: of a picture.
        flat: whether they are vectors.
        n: pictures to train on.
        held: pictures that are held out.
        careless: of the model.
    """
    shape = (side,) if flat else (1, side, side)
    return Fit(Painter(shape, careless), Pictures(shape, n, held), offset)


def offset(model: Painter, data: Data) -> dict[str, float]:
    """How far the mean is from a value that it passes."""
    return {"offset": (model.mean.mean() + 0.1).abs().item()}


painting = Recipe(
    "Painting.", build, system="Painting", headline=Headline("me"), data="noise", claim=Claim("offset", at_most=1.0),
    defaults={"steps": 20, "batch": 16, "log_every": 5, "save_every": 7, "ema": 0.5},
)  # fmt: skip
"""Its best step of those that 4 divides is not the last."""
