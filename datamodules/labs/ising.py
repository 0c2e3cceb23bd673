"""The Ising model of tiny binary images, whose probabilities can all be listed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from datamodules.base import Batch, Data, Endless, test_set


def every(shape: tuple[int, ...]) -> Tensor:
    """All images [2^D, *shape] of -1 and 1, float64."""
    size = math.prod(shape)
    bits = torch.arange(2**size)[:, None] >> torch.arange(size) & 1
    return (2.0 * bits.double() - 1).view(-1, *shape)


class Ising(Data):
    """Images [B, 1, side, side] of -1 and 1 whose neighbours tend to be equal; fresh at every step.

    Args:
        batch: global batch.
        side: height and width, at most 4.
        coupling: of neighbours; p(x) is proportional to exp(coupling times the sum of products of neighbours + field times the sum).
        field: preference for 1.

    Raises:
        ValueError: there would be too many images to list.
    """

    levels = 2

    def __init__(self, *, batch: int = 256, side: int = 3, coupling: float = 0.6, field: float = 0.1) -> None:
        super().__init__(batch=batch)
        if not 1 <= side <= 4:
            raise ValueError(f"The side must be 1 to 4, for all images to be listed, and is {side}.")
        self.shape = (1, side, side)
        self.all = every(self.shape)
        """[2^D, 1, side, side]."""
        x = self.all
        bonds = (x[..., 1:] * x[..., :-1]).sum((1, 2, 3)) + (x[..., 1:, :] * x[..., :-1, :]).sum((1, 2, 3))
        self.logs = (coupling * bonds + field * x.sum((1, 2, 3))).log_softmax(0)
        """Log probability of each, float64."""
        self.source = Endless(self.draw)

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        """n examples."""
        return {"x": self.all[torch.multinomial(self.logs.exp(), n, replacement=True, generator=rng)].float()}

    def test(self, n: int | None = None) -> Batch:
        return test_set(self.draw, n or 4096)

    def entropy(self) -> float:
        """Entropy of an image, in nats."""
        return -(self.logs.exp() * self.logs).sum().item()

    def kl(self, logs: Tensor) -> float:
        """KL from the truth to a model that gives all images these log probabilities [2^D], in nats."""
        return (self.logs.exp() * (self.logs - logs.to(self.logs))).sum().item()
