"""The run folder of a worker on a cluster, written only while the worker's driver answers.

So a worker that was already replaced, but still runs, cannot overwrite newer files. Against another process that continues the same run, a
folder on this machine or on shared storage has a lock (`Run.lock`), and a remote address has an owner's mark (`mirror`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray_jobs.run.folder import Run


class Fenced(Run):
    """The run folder of a group of workers: before each write `ask` is called, and raises if the group was replaced.

    A checkpoint that is being written at that moment is completed. It is whole, and has the bits that the new group computes again.
    """

    ask: Callable[[], None]
    """Ask the driver; raise where it does not answer."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """As `Run.log`, fenced."""
        self.ask()
        super().log(step, metrics)

    def status(self, state: str, step: int, steps: int, **more: Any) -> None:
        """As `Run.status`, fenced."""
        self.ask()
        super().status(state, step, steps, **more)

    def save(self, step: int, state: Mapping[str, Any]) -> Any:
        """As `Run.save`, fenced."""
        self.ask()
        return super().save(step, state)

    def keep(self, name: str, state: Mapping[str, Any]) -> None:
        """As `Run.keep`, fenced."""
        self.ask()
        super().keep(name, state)

    def rewind(self, step: int) -> None:
        """As `Run.rewind`, fenced."""
        self.ask()
        super().rewind(step)

    def finish(
        self, metrics: Mapping[str, float], *, step: int, device: str, splits: Mapping[str, str] | None = None
    ) -> None:
        """As `Run.finish`, fenced."""
        self.ask()
        super().finish(metrics, step=step, device=device, splits=splits)

    def push(self) -> None:
        """As `Run.push`, fenced."""
        self.ask()
        super().push()
