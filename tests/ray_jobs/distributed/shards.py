"""Functions of shards for crews to compute, in a module that workers can import."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ray_jobs.errors import UsageError


@dataclass(frozen=True)
class Estimate:
    """Moments of normal numbers that depend on (seed, step, shard) alone; matrix products, so that rounding matters."""

    seed: int
    step: int

    def __call__(self, shard: int) -> dict[str, np.ndarray]:
        """Mean [7] and second moment [7, 7] of 400 draws."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, (self.step << 32) + shard]))
        x = rng.normal(size=(400, 7)) @ rng.normal(size=(7, 7))
        return {"mean": x.mean(0), "square": x.T @ x}


@dataclass(frozen=True)
class Deadly:
    """As Estimate, but kills or stops its process in shard 3, the first time only."""

    mark: str
    how: str = "kill"

    def __call__(self, shard: int) -> dict[str, np.ndarray]:
        if shard == 3 and first_to_make(self.mark):
            if self.how == "hang":
                time.sleep(3600)
            os.kill(os.getpid(), signal.SIGKILL)
        return Estimate(0, 0)(shard)


@dataclass(frozen=True)
class Refuses:
    """Raises in shard 2, and counts how often it was called with it."""

    calls: str

    def __call__(self, shard: int) -> int:
        if shard == 2:
            with open(self.calls, "a") as file:
                file.write("called\n")
            raise UsageError("Shard 2 cannot be.")
        return shard


@dataclass(frozen=True)
class Last:
    """Shard 0 ends after all the others, or fails after a minute."""

    folder: str
    others: int

    def __call__(self, shard: int) -> int:
        """The process."""
        until = time.monotonic() + 60
        if shard:
            (Path(self.folder) / f"done-{shard}").touch()
        while not shard and len(list(Path(self.folder).glob("done-*"))) < self.others:
            if time.monotonic() > until:
                raise TimeoutError("The other shards wait for shard 0.")
            time.sleep(0.02)
        return os.getpid()


class Odd(Exception):
    """An exception that cannot be unpickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def raise_odd(shard: int) -> int:
    """Raise what cannot cross to another process."""
    raise Odd(1, 2)


def die(shard: int) -> int:
    """End the process."""
    os._exit(1)


def pid(shard: int) -> int:
    """The process, after a while, so that several get a share."""
    time.sleep(0.2)
    return os.getpid()


def sleep(seconds: float) -> int:
    """The process, after some seconds."""
    time.sleep(seconds)
    return os.getpid()


def has_torch(shard: int) -> bool:
    """Whether this process has imported torch."""
    return "torch" in sys.modules


def first_to_make(path: str) -> bool:
    """Whether this call made the file."""
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
