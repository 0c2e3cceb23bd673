"""Recipes in files: code that runs only where its user has named it on a command line, never because a run folder does."""

from __future__ import annotations

import os
from pathlib import Path

from cluster import trust
from ray_jobs.errors import UsageError


def is_file(name: str) -> bool:
    """Whether a recipe is named by its file, as in 'path/to/recipes.py:mine'."""
    return name.partition("@")[0].partition(":")[0].endswith(".py")


def _file(name: str) -> str:
    return str(Path(name.partition("@")[0].partition(":")[0]).resolve())


def remember(name: str) -> None:
    """Record that the user has named this recipe on a command line, if it is a file's."""
    if is_file(name):
        trust.remember(_file(name), trust.RECIPES)  # where that fails, `own_recipe` asks again


def own_recipe(name: str, run: str) -> str:
    """The name of a recipe that a run's record holds.

    Raises:
        UsageError: it is in a file that this user has not named on a command line here.
    """
    if is_file(name) and not trust.knows(_file(name), trust.RECIPES) and os.environ.get("REPRISE_TRUST") != "1":
        raise UsageError(
            f"{run} names a recipe in the file {_file(name)!r}, which is code and which you have not trained with on this machine: "
            "look at the file, then set REPRISE_TRUST=1 for this command if you trust it."
        )
    return name
