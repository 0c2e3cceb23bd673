"""Weights of two networks of one graph under their two sets of names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


def same(weight: Tensor) -> Tensor:
    """The weight itself."""
    return weight


class Entry(NamedTuple):
    """One weight of ours, and where it is among theirs."""

    ours: str
    theirs: tuple[str, ...]
    """Names of parts that are joined along the first dimension, or of copies."""
    copies: bool = False
    """Whether each of theirs is the whole weight."""
    out: Callable[[Tensor], Tensor] = same
    """From the form of ours to that of theirs."""
    back: Callable[[Tensor], Tensor] = same
    """The inverse of `out`."""


def layer(ours: str, *theirs: str, copies: bool = False) -> Iterator[Entry]:
    """The weight and the bias of a layer."""
    for kind in ("weight", "bias"):
        yield Entry(f"{ours}.{kind}", tuple(f"{name}.{kind}" for name in theirs), copies)


def exported(entries: Sequence[Entry], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of ours under their names, float32, each with memory of its own."""
    found: dict[str, Tensor] = {}
    for entry in entries:
        whole = entry.out(state[entry.ours].detach().float().cpu())
        parts = [whole] * len(entry.theirs) if entry.copies else whole.chunk(len(entry.theirs))
        found |= {name: part.clone().contiguous() for name, part in zip(entry.theirs, parts, strict=True)}
    return found


def imported(entries: Sequence[Entry], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of theirs under our names, float32.

    Raises:
        ValueError: a name is missing or unknown, parts do not fit together, or copies differ.
    """
    names = {name for entry in entries for name in entry.theirs}
    if missing := sorted(names - weights.keys()):
        raise ValueError(f"The weight {missing[0]} is missing{_more(missing)}.")
    if unknown := sorted(weights.keys() - names):
        raise ValueError(f"A network of this configuration has no weight {unknown[0]}{_more(unknown)}.")
    return {entry.ours: _joined(entry, [weights[name].float() for name in entry.theirs]) for entry in entries}


def _joined(entry: Entry, parts: list[Tensor]) -> Tensor:
    first = parts[0]
    if any(part.shape != first.shape for part in parts):
        shapes = ", ".join(f"{name} {list(p.shape)}" for name, p in zip(entry.theirs, parts, strict=True))
        raise ValueError(f"The weights {shapes} must have one shape.")
    if entry.copies:
        for name, part in zip(entry.theirs, parts, strict=True):
            if not torch.equal(part, first):
                raise ValueError(
                    f"The weights {entry.theirs[0]} and {name} must be equal: our network has one of them."
                )
    try:
        return entry.back(first if entry.copies or len(parts) == 1 else torch.cat(parts))
    except (RuntimeError, IndexError):
        raise ValueError(f"The weight {entry.theirs[0]} has the wrong shape {list(first.shape)}.") from None


def _more(names: Sequence[str]) -> str:
    return f", and {len(names) - 1} more" if len(names) > 1 else ""
