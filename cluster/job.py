"""A job, and the interface of the launchers that run it.

There is one `Launcher` for each kind of cluster (backend): this machine (`local.Local`), a Ray cluster
(`ray_clusters.jobs_api.Ray`), Slurm (`slurm.launcher.Slurm`), Kubernetes (`kubernetes.launcher.Kubernetes`). Nothing here
depends on what the command does. What belongs to the backend and not to the job (address, partition, image, time limit,
grace period) is a field of the launcher, so a new backend needs no change here.
"""

from __future__ import annotations

import math
import re
import secrets
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol, runtime_checkable

JOB_VARIABLE = "REPRISE_JOB"
"""Variable with a job's id; for a job that continues an earlier one, the id of that one."""
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


class LauncherError(ValueError):
    """A launcher cannot do what was asked; its message is one sentence that names the reason and what to do."""


class State(Enum):
    """A job's state. `lost` means that it ended, and that how it ended is not known."""

    pending = "pending"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"
    lost = "lost"

    @property
    def ended(self) -> bool:
        """Whether this state is final."""
        return self not in (State.pending, State.running)


@dataclass(frozen=True)
class Resources:
    """What the job's first process needs; processes that it starts on a cluster request their own."""

    cpus: float = 1
    """Cores of each node."""
    gpus: float = 0
    """GPUs of each node."""
    memory: int = 0
    """Bytes on each node; 0 does not ask for any."""
    nodes: int = 1


@dataclass(frozen=True)
class Job:
    """One command with its resources. `command` is a list of arguments and never passes a shell unquoted."""

    name: str
    command: tuple[str, ...]
    resources: Resources = Resources()
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables that are set in addition to those that the cluster sets."""
    workdir: Path = Path()
    """Folder in which the command starts; a cluster without shared storage gets a copy of it."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9_.-]{0,46}[a-z0-9])?", self.name):
            raise ValueError(
                f"{self.name!r} cannot name a job: use 1 to 48 of a-z, 0-9, '_', '.' and '-', "
                "with a letter or digit at both ends."
            )
        if not self.command:
            raise ValueError(f"The job {self.name} has no command: give at least the program to run.")
        if any("\0" in text for text in (*self.command, *self.env, *self.env.values())):
            raise ValueError(f"The job {self.name} has a NUL character in its command or environment: remove it.")


@dataclass(frozen=True)
class History:
    """Attempts, times and reason of a job's state; times are seconds since 1970, and 0 where they are not known."""

    attempts: int = 1
    """How often the job was started."""
    started: float = 0.0
    ended: float = 0.0
    why: str = ""
    """The reason for its state, in a few words: how it ended, or what it waits for."""


@runtime_checkable
class Launcher(Protocol):
    """The interface to one kind of cluster. Every method but `render` may raise LauncherError.

    A launcher may also have `history(id) -> History`, and `pinned() -> Mapping[str, Any]`: the fields that the environment
    decided (an address from a variable, a current context). They are recorded, so that a job is found again when the
    environment has changed.
    """

    def check(self, job: Job) -> list[str]:
        """Every reason why the job cannot run here, one sentence each, found before anything is submitted."""

    def render(self, job: Job) -> str:
        """What would be submitted, as readable text with secrets hidden; asks no cluster."""

    def submit(self, job: Job) -> str:
        """Start the job and return its id."""

    def state(self, id: str) -> State:
        """The job's state now."""

    def logs(self, id: str, follow: bool) -> Iterator[str]:
        """Pieces of the job's output so far; with `follow`, until the job has ended."""

    def cancel(self, id: str) -> None:
        """Ask the job to stop, with time to save its work; returns at once. Nothing happens to a job that has ended."""


def new_id(name: str) -> str:
    """A new id that starts with the job's name and that file systems, Slurm and Kubernetes accept."""
    return f"{name}-{secrets.token_hex(4)}"


def exit_words(code: int | None) -> str:
    """An exit code in words; negative codes, and codes above 128, stand for a signal."""
    if code is None:
        return ""
    number = -code if code < 0 else code - 128
    if number > 0 and number in {s.value for s in signal.Signals}:
        return f"ended by {signal.Signals(number).name} (exit code {code})"
    return f"exit code {code}"


def parse_memory(text: str) -> int:
    """Bytes of '512', '500M' (10^6) or '4Gi' / '4GiB' (2^30).

    Raises:
        ValueError: the text has another form.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", text.strip().lower())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is not a size in memory: write bytes or a unit, such as 500M or 4GiB.")
    return int(float(match[1]) * _UNITS[match[2]])


def parse_time(text: str) -> float:
    """Seconds of M, M:S, H:M:S, D-H, D-H:M or D-H:M:S; infinity for UNLIMITED.

    Source: Slurm, sbatch --time; every backend uses the same notation.

    Raises:
        ValueError: the text has another form.
    """
    if text.lower() in ("unlimited", "infinite"):
        return math.inf
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text, re.ASCII)
    if match is None:
        raise ValueError(f"{text!r} is no time limit: write HH:MM:SS, D-HH:MM:SS or minutes.")
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    unit = 3600 if days is not None or len(numbers) == 3 else 60
    return int(days or 0) * 86400 + sum(n * unit / 60**i for i, n in enumerate(numbers))
