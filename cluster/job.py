"""What is sent to a cluster, and what every cluster must be able to do with it.

A `Launcher` is one kind of place where a job can run: this machine (`local.Local`), a Ray cluster (`ray_api.Ray`).
Nothing here knows what the command does. What belongs to the place and not to the job (address, partition, image,
time limit, grace period) is a field of the launcher, so a new place needs no change here.
"""

from __future__ import annotations

import math
import re
import secrets
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

HIDDEN = "***"
JOB_VARIABLE = "REPRISE_JOB"
"""Tells a job its own id, unless its environment tells it another: that of the job that it goes on with."""
_SECRET = re.compile(
    r"(token|secret|password|passwd|passphrase|credentials?|(api|private|access)[_-]?key)(?![a-z])", re.IGNORECASE
)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


class LauncherError(ValueError):
    """A launcher cannot do what was asked: one sentence says why and what to do."""


class State(Enum):
    """Where a job stands. `lost` means that it ended and nobody will ever know how."""

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
    """What the job's first process needs; what it starts itself on a cluster asks for its own."""

    cpus: float = 1
    """Cores of each node."""
    gpus: float = 0
    """GPUs of each node."""
    memory: int = 0
    """Bytes on each node; 0 does not ask for any."""
    nodes: int = 1


@dataclass(frozen=True)
class Job:
    """One command with what it needs. `command` is a list of arguments and never passes a shell unquoted."""

    name: str
    command: tuple[str, ...]
    resources: Resources = Resources()
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables set in addition to what the place itself sets."""
    workdir: Path = Path()
    """Folder that the command starts in; a cluster without shared storage gets a copy of it."""

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
    """What a place knows of a job beside its state; times are seconds since 1970, and 0 where it does not know."""

    attempts: int = 1
    """How often it was started."""
    started: float = 0.0
    ended: float = 0.0
    why: str = ""
    """Why it stands as it does, in a few words: how it ended, or what it waits for."""


@runtime_checkable
class Launcher(Protocol):
    """One kind of place to run jobs. Every method but `render` may raise LauncherError.

    A launcher may also have `history(id) -> History`, and `pinned() -> Mapping[str, Any]`: the fields that the surroundings
    decided for it (an address from a variable, a current context), by which a job is found again when they have changed.
    """

    def check(self, job: Job) -> list[str]:
        """Every reason why the job cannot run here, one sentence each, found before anything is submitted."""

    def render(self, job: Job) -> str:
        """What would be submitted, as text a person can read, with secrets hidden; touches no cluster."""

    def submit(self, job: Job) -> str:
        """Starts the job and returns its id."""

    def state(self, id: str) -> State:
        """Where the job stands now."""

    def logs(self, id: str, follow: bool) -> Iterator[str]:
        """Pieces of what the job printed so far; with `follow`, goes on until the job has ended."""

    def cancel(self, id: str) -> None:
        """Asks the job to stop, with time to save its work; returns at once. Nothing happens to an ended job."""


def new_id(name: str) -> str:
    """A new id that starts with the job's name, lower-case, as file systems, Slurm and Kubernetes accept it."""
    return f"{name}-{secrets.token_hex(4)}"


def exit_words(code: int | None) -> str:
    """An exit code in words; negative ones, and those above 128, stand for a signal."""
    if code is None:
        return ""
    number = -code if code < 0 else code - 128
    if number > 0 and number in {s.value for s in signal.Signals}:
        return f"ended by {signal.Signals(number).name} (exit code {code})"
    return f"exit code {code}"


def parse_memory(text: str) -> int:
    """Bytes meant by '512', '500M' (10^6) or '4Gi' / '4GiB' (2^30).

    Raises:
        ValueError: the text is no such size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", text.strip().lower())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is not a size in memory: write bytes or a unit, such as 500M or 4GiB.")
    return int(float(match[1]) * _UNITS[match[2]])


def parse_time(text: str) -> float:
    """Seconds meant by M, M:S, H:M:S, D-H, D-H:M or D-H:M:S, or infinity by UNLIMITED.

    Source: Slurm, sbatch --time, whose words serve for every place.

    Raises:
        ValueError: the text is no such time.
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


def is_secret(name: str) -> bool:
    """Whether a variable or option of this name holds something that nobody else should read."""
    return _SECRET.search(name) is not None


def hide_env(env: Mapping[str, str]) -> dict[str, str]:
    """The variables with the values of secret ones hidden, for showing and storing."""
    return {name: HIDDEN if is_secret(name) else value for name, value in env.items()}


def hide_command(command: Sequence[str]) -> tuple[str, ...]:
    """The command with the values of secret options (--x.token=V, --token V) hidden, for showing and storing."""
    shown: list[str] = []
    for word in command:
        name, equals, _ = word.partition("=")
        if shown and "=" not in shown[-1] and shown[-1].startswith("--") and is_secret(shown[-1]):
            shown.append(HIDDEN)
        elif equals and name.startswith("--") and is_secret(name):
            shown.append(f"{name}={HIDDEN}")
        else:
            shown.append(word)
    return tuple(shown)


def hide_words(value: Any) -> Any:
    """A text, or each of several, with what follows a secret name (NAME=VALUE) or a user's name in an address hidden.

    A value that only names a variable ($TOKEN) stays; what is no text is returned as it is.
    """
    if isinstance(value, list | tuple):
        return [hide_words(item) for item in value]
    if not isinstance(value, str):
        return value
    named = re.sub(
        r"([\w.-]+)=([^\s$]\S*)", lambda m: f"{m[1]}={HIDDEN}" if is_secret(m[1]) else m[0], value, flags=re.ASCII
    )
    return re.sub(r"(://[^/\s:@]*:)[^@/\s]+@", rf"\1{HIDDEN}@", named)
