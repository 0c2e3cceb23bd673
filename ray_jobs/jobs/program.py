"""How a job starts `reprise`: with -P, so that Python imports nothing from the folder in which the job starts."""

from __future__ import annotations

from collections.abc import Sequence

MODULE = ("-P", "-m", "ray_jobs.cli")
"""The words between the interpreter and the verb."""


def argv_of(command: Sequence[str]) -> tuple[str, ...]:
    """The verb and its words in a job's command; empty where the command starts another program. Earlier versions sent no -P."""
    for words in (MODULE, MODULE[1:]):
        if tuple(command[1 : len(words) + 1]) == words:
            return tuple(command[len(words) + 1 :])
    return ()
