"""Several seeds' tensors in one, with the seeds as a first dimension that what computes with them does not see.

It is torch.func.vmap with a way out: what has no batching rule, or a slow one, is told all seeds' tensors and gives all seeds' back.
Publicly that is an autograd.Function with a vmap rule, which takes ten times as long as the few functions of functorch used here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch as functorch


def stacked(x: Tensor) -> bool:
    """Whether each seed has an x of its own, and only one is seen."""
    return functorch.is_batchedtensor(x)


def one(x: Tensor) -> Tensor:
    """x [S, ...] as each of S seeds sees it: [...]. Within `for_all` only."""
    return functorch._add_batch_dim(x, 0, functorch.maybe_current_level())


def every(x: Tensor) -> Tensor:
    """The inverse of `one`, [S, ...]; what is the same for all seeds stays as it is."""
    if not stacked(x):
        return x
    whole, at = functorch.get_unwrapped(x), functorch.maybe_get_bdim(x)
    return whole.movedim(at, 0) if at else whole


class outside:
    """Within `for_all`, tensors that are of all seeds are computed with as if without it: faster, and all of torch is allowed.

    A class, for a generator's context takes as long as a small product.
    """

    def __enter__(self) -> None:
        self.layer = functorch.pop_dynamic_layer_stack()

    def __exit__(self, *error: object) -> None:
        functorch.push_dynamic_layer_stack(self.layer)


def apart(f: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """What f makes of all seeds' inputs [S, ...] and gives back [S, ...], as each seed sees it; where there is one seed, f of its own."""
    if not any(map(stacked, inputs)):
        return f(*inputs)
    whole = [every(x) for x in inputs]
    with outside():
        out = f(*whole)
    return one(out)


def taken(x: Tensor, at: Tensor) -> Tensor:
    """x[at], the rows [N] that each seed has chosen: a copy of all seeds' at once takes a third of the time of vmap's."""
    return apart(_taken, x, at) if stacked(x) and stacked(at) else x[at]


def _taken(x: Tensor, at: Tensor) -> Tensor:
    rows = at + torch.arange(0, x.shape[0] * x.shape[1], x.shape[1], device=at.device)[:, None]
    return x.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, at.shape)


def for_all(seeds: int, f: Callable[[], Any]) -> Any:
    """What f returns, in which tensors may be seen as `one` of so many seeds; tensors in it must be told by `every`."""
    said: list[Any] = []

    def call(number: Tensor) -> Tensor:
        said.append(f())
        return number

    torch.func.vmap(call, randomness="error")(torch.arange(seeds))  # each seed draws by its own generator: `draws`
    return said[0]
