"""Random numbers from a generator, or from one generator for each of several seeds that train together.

A seed draws the same numbers alone and together. They are made on the generator's device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from ray_jobs.rl.fast.vmapped import one, outside


class Generators:
    """One for each seed: what takes a torch.Generator's place within `stacked.for_all`."""

    def __init__(self, each: Sequence[torch.Generator]) -> None:
        self.each, self.device = list(each), each[0].device

    def fill(self, shape: Sequence[int], dtype: torch.dtype | None, fill: Callable[..., Any]) -> Tensor:
        """[S, *shape]: every seed's numbers, by its own generator."""
        x = torch.empty((len(self.each), *shape), dtype=dtype, device=self.device)
        for row, rng in zip(x.unbind(0), self.each, strict=True):
            fill(row, generator=rng)
        return x


def as_one(each: Sequence[torch.Generator]) -> torch.Generator:
    """Generators where an algorithm expects one, which it hands on to the functions below."""
    return cast(torch.Generator, Generators(each))


def among(n: int) -> Callable[..., Any]:
    """What fills a tensor evenly with 0 .. n-1."""
    return lambda x, generator: x.random_(0, n, generator=generator)


def _draw(
    shape: Sequence[int], rng: torch.Generator, fill: Callable[..., Any], dtype: torch.dtype | None = None
) -> Tensor:
    if isinstance(rng, Generators):
        with outside():
            x = rng.fill(shape, dtype, fill)
        return one(x)
    x = torch.empty(shape, dtype=dtype, device=rng.device)
    fill(x, generator=rng)
    return x


def normal(shape: Sequence[int], rng: torch.Generator, dtype: torch.dtype | None = None) -> Tensor:
    """Standard normal."""
    return _draw(shape, rng, Tensor.normal_, dtype)


def uniform(shape: Sequence[int], rng: torch.Generator) -> Tensor:
    """Even in [0, 1)."""
    return _draw(shape, rng, Tensor.uniform_)


def exponential(shape: Sequence[int], rng: torch.Generator) -> Tensor:
    """With rate 1."""
    return _draw(shape, rng, Tensor.exponential_)


def integers(n: int, shape: Sequence[int], rng: torch.Generator) -> Tensor:
    """Even among 0 .. n-1, int64."""
    return _draw(shape, rng, among(n), torch.int64)


def permutation(n: int, rng: torch.Generator) -> Tensor:
    """0 .. n-1 in a random order [n], int64."""
    return _draw((n,), rng, lambda x, generator: torch.randperm(n, generator=generator, out=x), torch.int64)
