"""Images of few levels with exact probabilities: lattices of spins or greys, by transfer matrices, and noisy prototypes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from datamodules.base import Batch, Data, Endless, test_set

ROWS = 1024
"""Largest number of different rows that are listed."""


class Lattice(Data):
    """Images [B, 1, height, width] of evenly spaced values from -1 to 1; fresh at every step.

    p(x) is proportional to exp(coupling times the sum of products of neighbours + field times the sum). The rows
    are a Markov chain, each row a state; the weight of all rows below is computed once, from the bottom up.

    Args:
        batch: global batch.
        height, width: in pixels.
        levels: values of a pixel.
        coupling: of neighbours.
        field: preference for 1.

    Source: Onsager 1944, "Crystal statistics I", section 1 (the transfer matrix).

    Raises:
        ValueError: there would be too many rows to list.
    """

    def __init__(
        self,
        *,
        batch: int = 64,
        height: int = 8,
        width: int = 8,
        levels: int = 2,
        coupling: float = 0.4,
        field: float = 0.05,
    ) -> None:
        super().__init__(batch=batch)
        if levels < 2 or levels**width > ROWS:
            raise ValueError(
                f"Rows of {width} pixels of {levels} levels are {levels**width}; 2 to {ROWS} can be listed."
            )
        self.levels, self.shape = levels, (1, height, width)
        places = torch.arange(levels**width)[:, None] // levels ** torch.arange(width) % levels
        self.rows = places.double() * (2 / (levels - 1)) - 1
        """Every row [S, width], float64."""
        own = coupling * (self.rows[:, 1:] * self.rows[:, :-1]).sum(1) + field * self.rows.sum(1)
        bond = coupling * self.rows @ self.rows.T
        below, chain = own.new_zeros(len(own)), []
        for _ in range(height - 1):
            logs = bond + own + below
            chain.append(logs.log_softmax(1))
            below = logs.logsumexp(1)
        self.first, self.chain = (own + below).log_softmax(0), chain[::-1]
        """Log probabilities [S] of the first row, and [S, S] of each next one given that before it, float64."""
        self._ends = [logs.exp().cumsum(1) for logs in self.chain]
        self.source = Endless(self.draw)

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        """n examples."""
        state = torch.multinomial(self.first.exp(), n, replacement=True, generator=rng)
        found, uniform = [state], torch.rand(len(self.chain), n, 1, generator=rng, dtype=torch.float64)
        for ends, at in zip(self._ends, uniform, strict=True):
            state = torch.searchsorted(ends[state], at)[:, 0].clamp_(max=len(self.rows) - 1)
            found.append(state)
        return {"x": self.rows[torch.stack(found, 1)].float()[:, None]}

    def test(self, n: int | None = None) -> Batch:
        return test_set(self.draw, n or 4096)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log probability [B] of x [B, *shape] in nats, float64."""
        places = ((x.cpu().double()[:, 0] + 1) * (self.levels - 1) / 2).round().long()
        state = (places * self.levels ** torch.arange(self.shape[2])).sum(2)
        steps = zip(self.chain, state.T[:-1], state.T[1:], strict=True)
        return self.first[state[:, 0]] + sum(logs[a, b] for logs, a, b in steps)

    def entropy(self) -> float:
        """Entropy of an image, in nats."""
        row, total = self.first.exp(), torch.special.entr(self.first.exp()).sum()
        for logs in self.chain:
            total = total + row @ torch.special.entr(logs.exp()).sum(1)
            row = row @ logs.exp()
        return total.item()


class Prototypes(Data):
    """Images [B, 1, side, side] of -1 and 1: one of a few smooth pictures, with some pixels negated; fresh at every step.

    A pixel depends on which picture it is, and so on pixels everywhere.

    Args:
        batch: global batch.
        pictures: how many, equally likely.
        side: height and width.
        flip: probability with which a pixel is negated.
    """

    levels = 2

    def __init__(self, *, batch: int = 64, pictures: int = 8, side: int = 8, flip: float = 0.1) -> None:
        super().__init__(batch=batch)
        self.shape, self.flip = (1, side, side), flip
        line = torch.arange(side).double()
        near = torch.exp(-((line[:, None] - line) ** 2) / 8)
        noise = torch.randn(pictures, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.pictures = torch.where(near @ noise @ near > 0, 1.0, -1.0).double()
        """[pictures, side, side]."""
        self.source = Endless(self.draw)

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        """n examples."""
        which = torch.randint(len(self.pictures), (n,), generator=rng)
        flipped = torch.rand(n, *self.shape[1:], generator=rng) < self.flip
        return {"x": torch.where(flipped, -1.0, 1.0)[:, None] * self.pictures[which].float()[:, None]}

    def test(self, n: int | None = None) -> Batch:
        return test_set(self.draw, n or 4096)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log probability [B] of x [B, *shape] in nats, float64."""
        size = self.pictures[0].numel()
        same = (size + x.cpu().double().flatten(1) @ self.pictures.flatten(1).T) / 2
        logs = same * math.log(1 - self.flip) + (size - same) * math.log(self.flip)
        return logs.logsumexp(1) - math.log(len(self.pictures))


IMAGES: dict[str, Callable[..., Lattice | Prototypes]] = {
    "spins": Lattice,
    "greys": partial(Lattice, width=4, levels=4, coupling=0.8),
    "prototypes": Prototypes,
}
"""Images of a few levels, of known probability, by their name."""


def images(name: str, *, batch: int = 64) -> Lattice | Prototypes:
    """The images of a name.

    Raises:
        ValueError: there are none.
    """
    if name not in IMAGES:
        raise ValueError(f"There are no images '{name}'; allowed: {', '.join(IMAGES)}.")
    return IMAGES[name](batch=batch)
