"""Tensors of several seeds as one tensor whose first dimension, the seeds', is hidden from the code that computes with it.

This is torch.func.vmap with a way out: an operation without a batching rule, or with a slow one, takes and returns the tensors of all
seeds. The public way to do that is an autograd.Function with a vmap rule, whose call takes ten times as long as the private functions
of functorch used here (seen in torch 2.5 to 2.9); nothing else in the project uses them.

Gain: 64 seeds trained together make 4 (DQN, TD3) to 7 (A2C, PPO with minibatches of 64) times as many updates per second as one after
the other (benchmarks/together.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch as functorch


def is_batched(x: Tensor) -> bool:
    """Whether each seed has its own x, and the seeds' dimension is hidden."""
    return functorch.is_batchedtensor(x)


def wrap(x: Tensor) -> Tensor:
    """Hide the seeds' dimension of x [S, ...]: [...] remains visible. Within `vmap_seeds` only."""
    return functorch._add_batch_dim(x, 0, functorch.maybe_current_level())


def unwrap(x: Tensor) -> Tensor:
    """Show the seeds' dimension of x again: [S, ...]. A tensor that is the same for all seeds is returned as it is."""
    if not is_batched(x):
        return x
    whole, at = functorch.get_unwrapped(x), functorch.maybe_get_bdim(x)
    return whole.movedim(at, 0) if at else whole


class without_vmap:
    """Leave vmap for a while: tensors then have their seed dimension, and all of torch may be used.

    A class and not a generator, because entering a generator's context takes as long as a small matrix product.
    """

    def __enter__(self) -> None:
        self.layer = functorch.pop_dynamic_layer_stack()

    def __exit__(self, *error: object) -> None:
        functorch.push_dynamic_layer_stack(self.layer)


def batched(f: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Call f on the tensors of all seeds, [S, ...] -> [S, ...], outside vmap; with one seed, call f on its own tensors."""
    if not any(map(is_batched, inputs)):
        return f(*inputs)
    whole = [unwrap(x) for x in inputs]
    with without_vmap():
        out = f(*whole)
    return wrap(out)


def take_rows(x: Tensor, at: Tensor) -> Tensor:
    """x[at]: rows [N] of x [M, ...] that each seed has chosen for itself.

    Gain: one copy for all seeds takes a third of the time of vmap's own rule.
    """
    return batched(_take_rows, x, at) if is_batched(x) and is_batched(at) else x[at]


def _take_rows(x: Tensor, at: Tensor) -> Tensor:
    rows = at + torch.arange(0, x.shape[0] * x.shape[1], x.shape[1], device=at.device)[:, None]
    return x.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, at.shape)


def vmap_seeds(seeds: int, f: Callable[[], Any]) -> Any:
    """Call f once for so many seeds, and return its result.

    Within f, `wrap` hides the seeds' dimension; tensors in the result must have been unwrapped.
    """
    found: list[Any] = []

    def call(index: Tensor) -> Tensor:
        found.append(f())
        return index

    torch.func.vmap(call, randomness="error")(torch.arange(seeds))  # each seed has its own generator: `SeedGenerators`
    return found[0]
