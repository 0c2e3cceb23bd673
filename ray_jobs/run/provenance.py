"""What produced a run: versions of packages, the commit, the time."""

from __future__ import annotations

import contextlib
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

RECORDS = (":!results", ":!docs/results", ":!benchmarks/results")
"""What measuring itself writes is no change of the code that is measured."""


PACKAGES = ("torch", "lightning", "ray", "datasets", "gymnasium", "numpy", "reprise")


def now() -> str:
    """This moment, ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Python's and the main packages' versions, read without importing them."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def git_commit(folder: Path = Path(__file__).parents[2]) -> str | None:
    """The checkout's commit, with '+changes' where the tree differs from it; None outside a checkout."""

    def ask(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        return ask("rev-parse", "HEAD") + (
            "+changes" if ask("status", "--porcelain", "-uno", "--", ".", *RECORDS) else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None
