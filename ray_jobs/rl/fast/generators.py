"""One random generator for each of several seeds that train together, used in place of one torch.Generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from ray_jobs.rl.fast.vmapped import without_vmap, wrap


class SeedGenerators:
    """The generators of S seeds. Each seed draws the same numbers as it does alone (`maths.draws`).

    Args:
        each: one generator for each seed, all on the same device.
    """

    def __init__(self, each: Sequence[torch.Generator]) -> None:
        self.each, self.device = list(each), each[0].device

    def draw(self, shape: Sequence[int], dtype: torch.dtype | None, fill: Callable[..., Any]) -> Tensor:
        """Random numbers of each seed, [*shape] with the seeds' dimension hidden. Within `vmap_seeds` only."""
        with without_vmap():
            x = self.draw_all(shape, dtype, fill)
        return wrap(x)

    def draw_all(self, shape: Sequence[int], dtype: torch.dtype | None, fill: Callable[..., Any]) -> Tensor:
        """[S, *shape]: row s is filled by the generator of seed s."""
        x = torch.empty((len(self.each), *shape), dtype=dtype, device=self.device)
        for row, rng in zip(x.unbind(0), self.each, strict=True):
            fill(row, generator=rng)
        return x


def as_one(each: Sequence[torch.Generator]) -> torch.Generator:
    """Seeds' generators, typed as the one generator that an algorithm expects; it hands it to `maths.draws` only."""
    return cast(torch.Generator, SeedGenerators(each))
