"""A backend for tests: a shelf that jobs lie on until a test moves them, with an option of every type and no machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.hiding import hide_env
from cluster.job import History, Job, LauncherError, State, new_id

KEPT: dict[str, tuple[Job, State]] = {}
HISTORIES: dict[str, History] = {}
ASKED: list[str] = []


@dataclass(frozen=True)
class Shelf:
    """A shelf."""

    board: str = "top"
    """Which board."""
    slots: int = 1
    """Jobs that it holds."""
    tilt: float = 0.0
    """Degrees."""
    fragile: bool = False
    """Handle with care."""
    labels: tuple[str, ...] = ()
    """Stuck on, one by one."""
    shared: str = ""
    """Folder that everybody sees."""
    python: str = ""
    """Interpreter there."""
    dark: bool = False
    """Nobody answers."""
    attic: Path = Path()
    """No option: a path is none."""

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError(f"--slots must be at least 1, not {self.slots}.")

    def check(self, job: Job) -> list[str]:
        return ["The shelf is full."] if len(KEPT) >= 99 else []

    def render(self, job: Job) -> str:
        return f"shelf {self.board} {self.labels} {list(job.command)} {hide_env(job.env)} {job.resources}\n"

    def submit(self, job: Job) -> str:
        id = new_id(job.name)
        KEPT[id] = (job, State.pending)
        return id

    def state(self, id: str) -> State:
        ASKED.append(id)
        if self.dark or id not in KEPT:
            raise LauncherError(f"The shelf knows no {id}.")
        return KEPT[id][1]

    def history(self, id: str) -> History:
        return HISTORIES.get(id, History())

    def logs(self, id: str, follow: bool) -> Iterator[str]:
        yield "rustle\n"

    def cancel(self, id: str) -> None:
        KEPT[id] = (KEPT[id][0], State.cancelled)


def move(id: str, state: State, history: History | None = None) -> None:
    """Let a job stand so."""
    KEPT[id] = (KEPT[id][0], state)
    if history:
        HISTORIES[id] = history
