"""Tensors of several kinds in one, what belongs to a place side by side: to fetch a place is to go to memory once.

Of small ones drawn at random that takes a third of the time of fetching each from a tensor of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

WORD = 8
"""Bytes of the integers that rows are kept as: no kind of number needs its address to be a multiple of more."""


@dataclass(frozen=True)
class Field:
    """One kind of numbers in a row: as bytes `first` .. `last` - 1."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    first: int
    last: int


Fields = dict[str, Field]


def laid_out(kinds: Mapping[str, tuple[torch.dtype, Sequence[int]]]) -> Fields:
    """Where each kind, told by its type and shape, is in a row: the longest types first, so that each lies where its type may."""
    fields, first = {}, 0
    for name, (dtype, shape) in sorted(kinds.items(), key=lambda kind: -kind[1][0].itemsize):
        last = first + dtype.itemsize * math.prod(shape)
        fields[name], first = Field(dtype, tuple(shape), first, last), last
    return fields


def words(fields: Fields) -> int:
    """Integers in a row."""
    return -(-max(field.last for field in fields.values()) // WORD)


def views(rows: Tensor, fields: Fields) -> dict[str, Tensor]:
    """What rows [*, words] hold, [*, *shape] of each kind."""
    plain = rows.view(torch.uint8)
    parts = {k: plain[..., field.first : field.last].view(field.dtype) for k, field in fields.items()}
    return {k: x.unflatten(-1, fields[k].shape) if fields[k].shape else x.squeeze(-1) for k, x in parts.items()}
