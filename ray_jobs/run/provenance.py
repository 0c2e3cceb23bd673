"""What produced a run: versions of packages, the commit, the time."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

RECORDS = (":!results", ":!docs/results", ":!benchmarks/results")
"""What measuring itself writes is no change of the code that is measured."""


STATUS = ("--porcelain", "-uno", "--ignore-submodules=dirty")
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
    try:
        changed = _git(folder, "status", *STATUS, "--", ".", *RECORDS, env=_harmless(folder))
        return _git(folder, "rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str, env: Mapping[str, str] = {}) -> str:
    """What git prints; it writes no index and fetches nothing.

    Args:
        folder: where it looks.
        words: its command.
        env: further variables.
    """
    line = ["git", "--no-optional-locks", "-C", str(folder), *words]
    known = os.environ | {"GIT_ALLOW_PROTOCOL": "", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"} | dict(env)
    return subprocess.run(line, capture_output=True, text=True, check=True, timeout=10, env=known).stdout.strip()


def _harmless(folder: Path) -> dict[str, str]:
    """Variables that switch off the programs which a checkout's own configuration names: filters, hooks, monitors.

    Source: git-config(1), gitattributes(5).
    """
    listed = _git(folder, "config", "--list", "--includes", "--show-scope", "--name-only", "-z").split("\0")
    pairs = zip(listed[::2], listed[1::2], strict=False)
    own = {name for scope, name in pairs if scope in ("local", "worktree") and name.startswith("filter.")}
    off = {"core.fsmonitor": "false", "core.hooksPath": os.devnull} | dict.fromkeys(sorted(own), "")
    numbered = {f"GIT_CONFIG_KEY_{i}": name for i, name in enumerate(off)}
    return (
        numbered
        | {f"GIT_CONFIG_VALUE_{i}": v for i, v in enumerate(off.values())}
        | {"GIT_CONFIG_COUNT": str(len(off))}
    )
