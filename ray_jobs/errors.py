"""What the user is told when a command cannot be carried out."""

from __future__ import annotations

import difflib


class UsageError(Exception):
    """What the user asked for cannot be: one sentence says what was wrong and what is allowed (exit code 2)."""


def unknown(what: str, given: str, allowed: list[str], *, of: str = "") -> str:
    """One sentence: there is no such `what` (of some owner); did you mean the nearest; these are allowed."""
    near = difflib.get_close_matches(given, allowed, n=1, cutoff=0.6)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    head = f"{of} has no {what} '{given}'." if of else f"There is no {what} '{given}'."
    return f"{head}{hint} Allowed: {', '.join(allowed)}."


class Failed(Exception):
    """Training cannot continue; one sentence says why."""
