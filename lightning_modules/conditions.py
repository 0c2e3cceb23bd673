"""Conditions: what a model is given besides its input, such as labels, texts or images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

RANKS = {"label": 1, "tokens": 2, "text": 3, "mask": 2, "vector": 2, "image": 4, "control": 4, "numbers": 2}
"""Dimensions of each field of `Cond`, the batch included."""


@dataclass(frozen=True, eq=False)
class Cond:
    """The conditions of B examples; a field that is None is absent, and a network then uses its learned null for it.

    Networks refuse a field that they were built without (`allow`), so that no condition is ignored in silence.

    Raises:
        ValueError: the fields have different batch sizes, a field has the wrong rank or type, `mask` comes without `text`,
            or `hidden` names a field that is absent.
    """

    label: Tensor | None = None
    """Classes [B], long."""
    tokens: Tensor | None = None
    """Tokens of a text [B, L], long, of which the network itself makes features (`nets.text.captioned`)."""
    text: Tensor | None = None
    """Features of tokens [B, L, E]."""
    mask: Tensor | None = None
    """Which tokens of `text` count, [B, L], bool."""
    vector: Tensor | None = None
    """One embedding [B, E] of each example: a pooled text, a CLIP image embedding."""
    image: Tensor | None = None
    """Images [B, C, h, w] that are joined to the input's channels: a low-resolution copy, known pixels."""
    control: Tensor | None = None
    """Images [B, C, H, W] for a ControlNet's branch."""
    numbers: Tensor | None = None
    """Real numbers [B, K], embedded as the noise level is: an augmentation level, a guidance weight, a second time."""
    hidden: Mapping[str, Tensor] = field(default_factory=dict)
    """Name of a field -> the rows [B], bool, in which the network replaces that field by its learned null."""

    def __post_init__(self) -> None:
        for name, value in self.given.items():
            if value.ndim != RANKS[name]:
                raise ValueError(
                    f"The condition '{name}' has shape {tuple(value.shape)} but must have rank {RANKS[name]}."
                )
        for name in ("label", "tokens"):
            if name in self.given and (self.given[name].is_floating_point() or self.given[name].dtype == torch.bool):
                raise ValueError(f"The condition '{name}' must hold integers, not {self.given[name].dtype}.")
        if self.mask is not None and (self.text is None or self.mask.shape != self.text.shape[:2]):
            raise ValueError("The condition 'mask' [B, L] must mark the tokens of a 'text' [B, L, E].")
        for name, rows in self.hidden.items():
            if name not in self.given or rows.dtype != torch.bool or rows.ndim != 1:
                raise ValueError(f"The hidden rows of '{name}' must be bool, [B], of a condition that is given.")
        sizes = {name: len(v) for name, v in (self.given | {f"hidden {k}": v for k, v in self.hidden.items()}).items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"The conditions have different batch sizes: {sizes}.")

    @property
    def given(self) -> dict[str, Tensor]:
        """The fields that are not None, by name, without `hidden`."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "hidden"}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def size(self) -> int | None:
        """B; None where nothing is given."""
        return next((len(value) for value in self.given.values()), None)

    def without(self, *names: str) -> Cond:
        """The same conditions with these fields absent: the null condition of guidance."""
        kept = {k: v for k, v in self.hidden.items() if k not in names}
        return replace(self, **dict.fromkeys(names), hidden=kept)  # type: ignore[arg-type]  # None is a value of each

    def hiding(self, rows: Mapping[str, Tensor]) -> Cond:
        """The same conditions with these rows [B] of these fields hidden, in place of `hidden`."""
        return replace(self, hidden=rows)

    def rows(self, index: Any) -> Cond:
        """The conditions of some examples; `index` is a slice or a tensor of indices or bools."""
        return self._each(lambda value: value[index])

    def to(self, device: torch.device | str) -> Cond:
        """The same conditions on a device."""
        return self._each(lambda value: value.to(device))

    def allow(self, *names: str, owner: str = "The network") -> None:
        """Check that only these fields are given.

        Raises:
            ValueError: another field is given, for which `owner` has no place.
        """
        for name in self.given.keys() - set(names) - {"mask"}:
            raise ValueError(
                f"{owner} was built without {name.removesuffix('s')}s: leave out the condition '{name}', "
                f"or build it with a place for that."
            )

    def _each(self, change: Callable[[Tensor], Tensor]) -> Cond:
        hidden = {name: change(value) for name, value in self.hidden.items()}
        return Cond(**{name: change(value) for name, value in self.given.items()}, hidden=hidden)


UNCONDITIONAL = Cond()
"""No conditions at all."""


def as_cond(cond: Tensor | Cond | None) -> Cond:
    """Labels [B], conditions or nothing -> conditions."""
    return UNCONDITIONAL if cond is None else Cond(label=cond) if isinstance(cond, Tensor) else cond


def from_batch(*names: str) -> Callable[[Mapping[str, Tensor]], Cond]:
    """The function that makes conditions of the entries of a batch which have these names."""
    return lambda batch: Cond(**{name: batch[name] for name in names})  # type: ignore[arg-type]  # none is 'hidden'


def one_hot(label: Tensor | None, classes: int, owner: str) -> Tensor | None:
    """Labels [B] as [B, classes], long; None for a model without classes, whatever its batches hold.

    Raises:
        ValueError: `owner` has classes and there are no labels; on a CPU, one of them is not in 0..classes-1.
    """
    if not classes:
        return None
    if label is None:
        raise ValueError(f"{owner} was built with {classes} classes: give the labels.")
    check_labels(label, classes)
    return F.one_hot(label, classes)


def without_labels(cond: object, classes: int = 0) -> None:
    """Refuse conditions that a model without classes is given for drawing or scoring.

    Raises:
        ValueError: there are some.
    """
    if cond is not None and not classes:
        raise ValueError("This model was trained without labels: leave them out.")


def check_labels(label: Tensor, classes: int) -> None:
    """Refuse labels [B] that are no classes; on a CPU alone, where a look waits for nothing.

    Raises:
        ValueError: one of them is not in 0..classes-1.
    """
    if label.device.type == "cpu" and len(label) and not 0 <= label.min() <= label.max() < classes:
        raise ValueError(f"Labels must be in 0..{classes - 1}, not {label.min():d}..{label.max():d}.")


def label_rows(cond: Cond, classes: int, n: int, device: torch.device) -> Tensor:
    """Row [n] of an embedding table [classes + 1] for each example: its label, or the last row where it is hidden or absent.

    Raises:
        ValueError: on a CPU, where a look waits for nothing, a label is not in 0..classes-1.
    """
    if cond.label is None:
        return torch.full((n,), classes, device=device)
    label = cond.label.to(device)
    check_labels(label, classes)
    return label if "label" not in cond.hidden else label.masked_fill(cond.hidden["label"].to(device), classes)
