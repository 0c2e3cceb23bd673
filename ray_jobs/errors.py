"""Errors with a message for the user."""

from __future__ import annotations

import difflib

LONG = 80
"""Characters of a name or value in a sentence."""


class UsageError(Exception):
    """A wrong command: one sentence names the mistake and what is allowed (exit code 2)."""


def unknown(what: str, given: str, allowed: list[str], *, of: str = "") -> str:
    """The sentence about an unknown name: what it is (and whose), the nearest name, and all that are allowed."""
    given = given if len(given) <= LONG else f"{given[:LONG]}..."
    near = difflib.get_close_matches(given, allowed, n=1, cutoff=0.6)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    head = f"{of} has no {what} '{given}'." if of else f"There is no {what} '{given}'."
    return f"{head}{hint} Allowed: {', '.join(allowed)}."


class Failed(Exception):
    """A training that cannot continue: one sentence says why (exit code 1)."""
