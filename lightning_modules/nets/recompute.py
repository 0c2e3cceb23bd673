"""Gradient checkpointing: less memory in training, for one more forward pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_modules.draws import Draws
from lightning_modules.dropout import Dropout


def recomputed(part: nn.Module, *given: Any) -> Tensor:
    """part(*given), whose inner activations are computed again in the backward pass instead of kept.

    Layers that draw by torch's generators, or by the model's `Draws` as `dropout.Dropout` does, draw the same again.

    Source: Chen et al. 2016, arXiv:1604.06174.
    """
    return checkpoint(_replayed(part), *given, use_reentrant=False)  # type: ignore[no-any-return]


def _replayed(part: nn.Module) -> Callable[..., Tensor]:
    """`part` as a function that on its second call draws what it drew on its first."""
    found = [layer.draws for layer in part.modules() if isinstance(layer, Dropout) and layer.draws is not None]
    began = [(draws, draws.count) for draws in found]

    def run(*given: Any) -> Tensor:
        with _counts(began):
            return part(*given)

    return run


@contextmanager
def _counts(began: list[tuple[Draws, int]]) -> Any:
    """Inside, the draws count from where they began; after, they count no less than before."""
    before = [draws.count for draws, _ in began]
    for draws, count in began:
        draws.count = count
    try:
        yield
    finally:
        for (draws, _), count in zip(began, before, strict=True):
            draws.count = max(draws.count, count)
