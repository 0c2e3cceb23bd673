"""Failures of environments, which raise or hang: one sentence says which, where and why."""

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

    from ray_jobs.envs.steps import StepResult, VectorEnv


class EnvironmentFailed(RuntimeError):
    """An environment raised or did not answer: one sentence names it, the step and the reason."""


@contextmanager
def time_limit(limit: float, count: Callable[[], int], failed: Callable[[], EnvironmentFailed]) -> Iterator[None]:
    """Like `TimedEnv.within`, for any counter: fail if `count` has not moved for `limit` seconds.

    Args:
        failed: makes the error to raise.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        with _watched_by_thread(limit, count, failed):
            yield
        return
    before = -1

    def on_alarm(number: int, frame: Any) -> None:
        nonlocal before
        if count() == before:
            raise failed()
        before = count()

    start, handler = time.monotonic(), set_handler(signal.SIGALRM, on_alarm)
    left, interval = signal.setitimer(signal.ITIMER_REAL, limit, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        set_handler(signal.SIGALRM, handler)
        if left:  # an alarm that was set before: it has less time left now
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - start), 1e-3), interval)


@contextmanager
def _watched_by_thread(
    limit: float, count: Callable[[], int], failed: Callable[[], EnvironmentFailed]
) -> Iterator[None]:
    """As `time_limit`, off the main thread: another thread calls `on_hang`."""
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
"""Called when environments hang in another thread than the main one, where no alarm can interrupt them; it may end the process."""


class TimedEnv:
    """Environments whose every failure is one sentence.

    Raises:
        EnvironmentFailed: a reset or a step raised, or, inside `within`, hangs.
    """

    def __init__(self, env: VectorEnv, name: str, who: str) -> None:
        """Wrap `env`; `name` (of the environment) and `who` ('runner 3') are for the sentence."""
        self.env, self.name, self.who, self.steps = env, name, who, 0
        self.obs_space, self.action_space = env.obs_space, env.action_space

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """As `VectorEnv.reset`."""
        return self._guarded(self.env.reset, seeds)

    def step(self, action: np.ndarray) -> StepResult:
        """As `VectorEnv.step`."""
        result = self._guarded(self.env.step, action)
        self.steps += 1
        return result

    def restart(self, rows: np.ndarray) -> np.ndarray:
        """As `VectorEnv.restart`."""
        return self._guarded(self.env.restart, rows)

    def _guarded(self, method: Callable[[Any], Any], argument: Any) -> Any:
        try:
            return method(argument)
        except EnvironmentFailed:
            raise
        except Exception as error:
            why = " ".join(str(error).split()).rstrip(".")
            raise self.failed(f"failed with {type(error).__name__}{': ' * bool(why)}{why}") from error

    def failed(self, how: str) -> EnvironmentFailed:
        """The error that says how the environments failed, and where."""
        return EnvironmentFailed(f"The environment {self.name} {how}, at step {self.steps} of {self.who}.")

    @contextmanager
    def within(self, limit: float) -> Iterator[None]:
        """Inside the block, a step that takes `limit` seconds fails, at the latest after twice that time.

        The alarm is set once, not for each step, and rings every `limit` seconds; environments that made no step between two alarms hang.
        It works in the main thread alone, and cannot interrupt C code that never returns; elsewhere `on_hang` is called, if it is set.
        """
        with time_limit(limit, lambda: self.steps, lambda: self.failed(f"did not answer within {limit:g} s")):
            yield

    def state(self) -> bytes | None:
        """As `VectorEnv.state`."""
        return self.env.state()

    def load(self, state: bytes) -> None:
        """As `VectorEnv.load`."""
        self.env.load(state)

    def close(self) -> None:
        """As `VectorEnv.close`."""
        self.env.close()
