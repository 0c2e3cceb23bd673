"""Random numbers [*shape] from a generator, on the generator's device.

Algorithms draw by these functions only. So a generator may be one torch.Generator, or an object with `draw` that stands for the
generators of several seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def _draw(
    shape: Sequence[int], rng: torch.Generator, fill: Callable[..., Any], dtype: torch.dtype | None = None
) -> Tensor:
    if not isinstance(rng, torch.Generator):
        return rng.draw(shape, dtype, fill)
    x = torch.empty(shape, dtype=dtype, device=rng.device)
    fill(x, generator=rng)
    return x


def integers_below(n: int) -> Callable[..., Any]:
    """A function that fills a tensor uniformly with 0 .. n-1, given `generator`."""
    return lambda x, generator: x.random_(0, n, generator=generator)


def normal(shape: Sequence[int], rng: torch.Generator, dtype: torch.dtype | None = None) -> Tensor:
    """Standard normal numbers."""
    return _draw(shape, rng, Tensor.normal_, dtype)


def uniform(shape: Sequence[int], rng: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1)."""
    return _draw(shape, rng, Tensor.uniform_)


def exponential(shape: Sequence[int], rng: torch.Generator) -> Tensor:
    """Exponentially distributed numbers of rate 1."""
    return _draw(shape, rng, Tensor.exponential_)


def integers(n: int, shape: Sequence[int], rng: torch.Generator) -> Tensor:
    """Uniform integers among 0 .. n-1, int64."""
    return _draw(shape, rng, integers_below(n), torch.int64)


def permutation(n: int, rng: torch.Generator) -> Tensor:
    """0 .. n-1 in a random order [n], int64."""
    return _draw((n,), rng, lambda x, generator: torch.randperm(n, generator=generator, out=x), torch.int64)
