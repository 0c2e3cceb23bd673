"""Ranges of settings: types of fields that say which numbers make sense, so that others are refused before anything starts."""

from __future__ import annotations

import math
import typing
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any

from ray_jobs.errors import UsageError


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`; NaN is in no range."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    """Whether `low` itself is left out."""
    below: bool = False
    """Whether `high` itself is left out."""

    def __contains__(self, x: float) -> bool:
        return (self.low < x if self.above else self.low <= x) and (x < self.high if self.below else x <= self.high)

    def __str__(self) -> str:
        words = []
        if math.isfinite(self.low):
            words.append(f"{'above' if self.above else 'at least'} {self.low:g}")
        if math.isfinite(self.high):
            words.append(f"{'below' if self.below else 'at most'} {self.high:g}")
        elif self.below:
            words.append("finite")
        return " and ".join(words)


Count = Annotated[int, Range(1)]
"""1, 2, 3 ..."""
Whole = Annotated[int, Range(0)]
"""0, 1, 2 ..."""
Positive = Annotated[float, Range(0, above=True, below=True)]
"""Above 0 and finite: a step size."""
Threshold = Annotated[float, Range(0, above=True)]
"""Above 0; infinity switches it off: the norm at which gradients are clipped."""
NotNegative = Annotated[float, Range(0, below=True)]
"""0 or more, and finite: the weight of a loss."""
Finite = Annotated[float, Range(above=True, below=True)]
"""Any number that is not infinite."""
Share = Annotated[float, Range(0, 1)]
"""From 0 to 1: a discount, a probability."""
Part = Annotated[float, Range(0, 1, above=True)]
"""Above 0, up to 1: how far something moves each time."""
Decay = Annotated[float, Range(0, 1, below=True)]
"""From 0, below 1: what is left of an average each time."""
Fraction = Annotated[float, Range(0, 1, above=True, below=True)]
"""Between 0 and 1."""

_KINDS: dict[str, Any] = {
    "Count": Count,
    "Whole": Whole,
    "Positive": Positive,
    "Threshold": Threshold,
    "NotNegative": NotNegative,
    "Finite": Finite,
    "Share": Share,
    "Part": Part,
    "Decay": Decay,
    "Fraction": Fraction,
}
RANGED: dict[str, Any] = _KINDS | {f"{name} | None": kind | None for name, kind in _KINDS.items()}
"""These types by their annotations."""


def bare(kind: Any) -> tuple[Any, Range | None]:
    """A type without its range, and the range."""
    if type(None) in typing.get_args(kind):
        (inner,) = (a for a in typing.get_args(kind) if a is not type(None))
        plain, found = bare(inner)
        return plain | None if found else kind, found
    found = next((x for x in getattr(kind, "__metadata__", ()) if isinstance(x, Range)), None)
    return (typing.get_args(kind)[0] if found else kind), found


def check_fields(made: Any) -> None:
    """Refuse a dataclass with a number out of its field's range; a plan in Python is checked by this, a command line by `settings.check`.

    Raises:
        UsageError: the first such field, and what is allowed.
    """
    for field in fields(made) if is_dataclass(made) else ():
        _, range_ = bare(RANGED.get(str(field.type), field.type))
        value = getattr(made, field.name)
        if range_ and value is not None and value not in range_:
            raise UsageError(f"{field.name} of {type(made).__name__} must be {range_}, not {value}.")
