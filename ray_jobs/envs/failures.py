"""Environments that raise or hang: one sentence says which, where and why."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ray_jobs.compat import set_handler

if TYPE_CHECKING:
    import numpy as np

    from ray_jobs.envs.steps import Moved, Vector


class EnvironmentFailed(RuntimeError):
    """An environment raised or did not answer: one sentence names it, the step and the reason."""


@contextmanager
def alarmed(limit: float, count: Callable[[], int], failed: Callable[[], EnvironmentFailed]) -> Iterator[None]:
    """As `Watched.within`, of whatever is counted; what does not count at all has at least `limit` seconds."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        with seen_from_outside(limit, count, failed):
            yield
        return
    before = -1

    def ring(number: int, frame: Any) -> None:
        nonlocal before
        if count() == before:
            raise failed()
        before = count()

    begun, handler = time.monotonic(), set_handler(signal.SIGALRM, ring)
    left, interval = signal.setitimer(signal.ITIMER_REAL, limit, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        set_handler(signal.SIGALRM, handler)
        if left:  # somebody else's alarm, of which time has passed
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - begun), 1e-3), interval)


@contextmanager
def seen_from_outside(
    limit: float, count: Callable[[], int], failed: Callable[[], EnvironmentFailed]
) -> Iterator[None]:
    """A thread tells `on_hang`."""
    if on_hang is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        before = -1
        while not over.wait(limit):
            if count() == before and on_hang is not None:
                on_hang(failed())
            before = count()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


on_hang: Callable[[EnvironmentFailed], None] | None = None
"""What to do about environments that hang beside the main thread, where no alarm can interrupt them: to end the process, say."""


class Watched:
    """Environments as they are, but for what they fail with.

    Raises:
        EnvironmentFailed: a reset or a step raised, or, inside `within`, hangs.
    """

    def __init__(self, env: Vector, name: str, who: str) -> None:
        """`name` and `who` ('runner 3') are for the sentence."""
        self.env, self.name, self.who, self.steps = env, name, who, 0
        self.obs_space, self.action_space = env.obs_space, env.action_space

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        return self.told(self.env.reset, seeds)

    def step(self, action: np.ndarray) -> Moved:
        moved = self.told(self.env.step, action)
        self.steps += 1
        return moved

    def restart(self, rows: np.ndarray) -> np.ndarray:
        return self.told(self.env.restart, rows)

    def told(self, ask: Callable[[Any], Any], what: Any) -> Any:
        try:
            return ask(what)
        except EnvironmentFailed:
            raise
        except Exception as error:
            said = " ".join(str(error).split()).rstrip(".")
            raise self.failed(f"failed with {type(error).__name__}{': ' * bool(said)}{said}") from error

    def failed(self, how: str) -> EnvironmentFailed:
        return EnvironmentFailed(f"The environment {self.name} {how}, at step {self.steps} of {self.who}.")

    @contextmanager
    def within(self, limit: float) -> Iterator[None]:
        """Nothing in here may hang: a step of `limit` seconds or more fails, at the latest when it has taken twice that.

        The alarm is set once, not for each step, and rings every `limit` seconds; whoever has not moved between two of them hangs.
        It works in the main thread alone, and cannot interrupt C code that never returns; elsewhere `on_hang` is told, if it is set.
        """
        with alarmed(limit, lambda: self.steps, lambda: self.failed(f"did not answer within {limit:g} s")):
            yield

    def state(self) -> bytes | None:
        return self.env.state()

    def load(self, state: bytes) -> None:
        self.env.load(state)

    def close(self) -> None:
        self.env.close()
