"""Errors with a message for the user."""

from __future__ import annotations

import difflib
import unicodedata


class UsageError(Exception):
    """A wrong command: one sentence names the mistake and what is allowed (exit code 2)."""


def unknown(what: str, given: str, allowed: list[str], *, of: str = "") -> str:
    """The sentence about an unknown name: what it is (and whose), the nearest name, and all that are allowed."""
    near = difflib.get_close_matches(given, allowed, n=1, cutoff=0.6)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    head = f"{of} has no {what} '{given}'." if of else f"There is no {what} '{given}'."
    return f"{head}{hint} Allowed: {', '.join(allowed)}."


def printable(text: object, *, lines: bool = False) -> str:
    """A text that anyone may have written, safe for a terminal: control characters and those that reorder text are written out.

    Args:
        text: such as a field of a record, or an answer of a cluster.
        lines: whether line breaks and tabs stay; else they are written out too.
    """
    kept = "\n\t" if lines else ""
    return "".join(c if c in kept or _shows(c) else c.encode("unicode_escape").decode() for c in str(text))


def _shows(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


class Failed(Exception):
    """A training that cannot continue: one sentence says why (exit code 1)."""
