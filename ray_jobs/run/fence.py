"""A group of workers on a cluster writes as long as its driver listens: it may have been given up, and live.

So may a process that went on alone with a run that others hold by now: a folder on this machine's or shared storage is locked (`Run.lock`),
and an address bears a mark (`mirror`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray_jobs.run.folder import Run


class Fenced(Run):
    """The run folder of a group of workers: before each write `ask` must say that the group still counts, or raise.

    A checkpoint that is on its way to the disk meanwhile gets there. It is whole, and the bits are those that others compute again.
    """

    ask: Callable[[], None]

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.ask()
        super().log(step, metrics)

    def status(self, state: str, step: int, steps: int, **more: Any) -> None:
        self.ask()
        super().status(state, step, steps, **more)

    def save(self, step: int, state: Mapping[str, Any]) -> Any:
        self.ask()
        return super().save(step, state)

    def rewind(self, step: int) -> None:
        self.ask()
        super().rewind(step)

    def finish(self, metrics: Mapping[str, float], *, step: int, device: str) -> None:
        self.ask()
        super().finish(metrics, step=step, device=device)

    def push(self) -> None:
        self.ask()
        super().push()
