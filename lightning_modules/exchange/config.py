"""Configurations that someone else has written: each value is checked before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]
"""The content of a config.json."""
MOST = 2**16
"""Largest count that a configuration may have."""


def demand(config: Config, fixed: Mapping[str, Any]) -> None:
    """Refuse a configuration whose values our networks cannot express; an absent one is as it must be.

    Raises:
        ValueError: a value differs.
    """
    for name, needed in fixed.items():
        allowed = needed if isinstance(needed, tuple) else (needed,)
        if (value := config.get(name, allowed[0])) not in allowed:
            raise ValueError(f"Our network has no {name} {brief(value)}: it must be {' or '.join(map(repr, allowed))}.")


def count(config: Config, name: str, default: int | None = None, least: int = 1) -> int:
    """A whole number of a configuration, from `least` to MOST.

    Raises:
        ValueError: it is none, or absent without a default.
    """
    value = config.get(name)
    value = default if value is None else value
    if type(value) is not int or not least <= value <= MOST:
        raise ValueError(
            f"The configuration's {name} must be a whole number from {least} to {MOST}, not {brief(value)}."
        )
    return value


def real(config: Config, name: str, default: float, low: float, high: float) -> float:
    """A number of a configuration, from `low` to `high`.

    Raises:
        ValueError: it is none.
    """
    value = config.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"The configuration's {name} must be a number from {low:g} to {high:g}, not {brief(value)}.")
    return float(value)


def texts(config: Config, name: str) -> list[str]:
    """A list of texts of a configuration.

    Raises:
        ValueError: it is none.
    """
    value = config.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
        raise ValueError(f"The configuration's {name} must be a list of texts, not {brief(value)}.")
    return value


def counts(config: Config, name: str) -> list[int]:
    """A list of whole numbers of a configuration, from 1 to MOST.

    Raises:
        ValueError: it is none.
    """
    value = config.get(name)
    if not isinstance(value, list) or not value or not all(type(n) is int and 1 <= n <= MOST for n in value):
        raise ValueError(f"The configuration's {name} must be a list of whole numbers, not {brief(value)}.")
    return value


def brief(value: Any) -> str:
    """A value in a sentence, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
