"""Errors with a message for the user."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence

LONG = 80
"""Characters of a name or value in a sentence."""


class UsageError(Exception):
    """A wrong command: one sentence names the mistake and what is allowed (exit code 2)."""


def unknown(what: str, given: str, allowed: list[str], *, of: str = "") -> str:
    """The sentence about an unknown name: what it is (and whose), the nearest name, and all that are allowed."""
    given = shortened(given)
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


def shortened(text: str) -> str:
    """A name or value that anyone may have written, in a sentence: printable, and its beginning where it is long."""
    return printable(text if len(text) <= LONG else f"{text[:LONG]}...")


def refuse_odd(words: Sequence[str], *, lines: bool = False) -> None:
    """Refuse words of a command line with characters that no name has: control characters, and halves of pairs.

    Args:
        words: of the command line.
        lines: whether line ends and tabs are allowed, as in texts for a shell.

    Raises:
        UsageError: one has such a character.
    """
    for word in words:
        if any(unicodedata.category(c) in ("Cc", "Cs") and not (lines and c in "\n\r\t") for c in word):
            raise UsageError(f"'{shortened(word)}' has a character that no name or value has: write it without.")


def _shows(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


class Failed(Exception):
    """A training that cannot continue: one sentence says why (exit code 1)."""
