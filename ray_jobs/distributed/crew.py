"""Crews: `crew.map(function, shards)` in this process or on Ray actors, with the same bits.

A shard is a fixed part of the work, set by the recipe and never by the number of workers; everything random in it is a function of (seed,
step, shard). Workers only decide who computes a shard, so a lost one is computed again by another worker. Shards and answers are plain
picklable data. A function must not change its shard or itself; what it keeps in its process, for example in a module's global, is only a
cache. A call should last 50 ms or more: a call to a Ray actor takes about 1 ms.
"""

from __future__ import annotations

import pickle
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol, Self, TypeVar

from ray_jobs.distributed.actor_pool import ActorPool, Call, Rules, actor_class
from ray_jobs.distributed.connection import START_LIMIT, Lost, connect

Shard = TypeVar("Shard")
Answer = TypeVar("Answer")

SHARD_LIMIT = 1800.0
"""Seconds that a shard may take, or 20 times the longest so far; a worker that hangs is replaced after that."""
POLL = 0.2
"""Seconds between two looks at `should_stop` while workers compute."""


class Stopped(Exception):
    """A map was left because `should_stop` returned True: there are no answers."""


class Crew(Protocol):
    """Maps functions over shards."""

    workers: int
    deaths: int

    def map(self, function: Callable[[Shard], Answer], shards: Iterable[Shard]) -> list[Answer]:
        """Answers of the function to all shards, in their order.

        Raises:
            Stopped: `should_stop` returned True.
            Exception: the function raised it. It is not tried again.
        """
        ...

    def close(self) -> None:
        """End the workers."""
        ...


class Here:
    """A crew of one: this process, shard after shard.

    Args:
        should_stop: called before each shard.
    """

    workers = 1
    deaths = 0

    def __init__(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        self.should_stop = should_stop

    def map(self, function: Callable[[Shard], Answer], shards: Iterable[Shard]) -> list[Answer]:
        """As `Crew.map`."""
        return [function(shard) for shard in self._until_stopped(shards)]

    def _until_stopped(self, shards: Iterable[Shard]) -> Iterable[Shard]:
        for shard in shards:
            if self.should_stop():
                raise Stopped
            yield shard

    def close(self) -> None:
        """There is nothing to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Worker:
    """A Ray actor that computes shards. It imports what the functions need, and nothing more."""

    def compute(self, function: Callable[[Any], Any], shard: Any) -> tuple[float, Exception | None, Any]:
        """Seconds, the exception of the function if it raised one, and its answer."""
        start, error, answer = time.monotonic(), None, None
        try:
            answer = function(shard)
        except Exception as raised:
            error = sendable(raised)
        return time.monotonic() - start, error, answer


def sendable(error: Exception) -> Exception:
    """The exception with a note of its traceback; where it cannot be pickled, a RuntimeError with its type and message."""
    error.add_note("In a worker:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # classes fail in many ways: local ones, constructors with other arguments
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def compute(function: Any, shard: Any) -> Call:
    """The call to compute a shard; `function` is a reference to one in the object store."""
    return lambda worker: worker.compute.remote(function, shard)


def shard_limit(fresh: bool, longest: float) -> float:
    """Seconds that a shard may take; unlike `actor_pool.call_limit`, because functions differ, and workers that get shards have started."""
    return max(SHARD_LIMIT, START_LIMIT if fresh else 20 * longest)


class OnRay:
    """Workers as Ray actors on one CPU each; each idle worker gets the next shard.

    A worker that dies or hangs is replaced, and its shard is given to the next idle worker. A `with` block ends the workers.

    Args:
        workers: actors. With room for fewer on the cluster, those that have started do the work.
        max_failures: deaths of workers in all before the crew gives up.
        address: of the Ray cluster; None for the one that this process is connected to, or else one of our own.
        report: gets a note of each death.
        should_stop: called every POLL seconds; see `Stopped`.
        outside: whether workers are placed outside of the placement group that this process is in.

    Raises:
        UsageError: no cluster answers at the address.
        Lost: workers died more often than `max_failures`, or none finds a free CPU.
    """

    def __init__(
        self,
        workers: int,
        max_failures: int,
        address: str | None = None,
        *,
        report: Callable[[dict[str, Any]], None] = lambda event: None,
        should_stop: Callable[[], bool] = lambda: False,
        outside: bool = False,
    ) -> None:
        self.workers, self.max_failures, self.should_stop = workers, max_failures, should_stop
        self.ray = connect(address, cpus=workers)
        self.waiting: deque[int] = deque()
        """Numbers of the shards that no worker has now, in order."""
        self.computing: dict[int, int] = {}
        """Slot of a worker -> the number of its shard."""
        actor = actor_class(Worker, outside=outside)
        rules = Rules(
            name="Worker",
            fewer="begin with fewer --workers",
            seconds=lambda answer: answer[0],
            judge=self._judge,
            again=self._give_back,
            limit=shard_limit,
        )
        self.pool = ActorPool(workers, lambda slot, attempt: actor.remote(), rules, report)

    @property
    def deaths(self) -> int:
        """Workers that were replaced."""
        return self.pool.deaths

    def map(self, function: Callable[[Shard], Answer], shards: Iterable[Shard]) -> list[Answer]:
        """As `Crew.map`."""
        self.pool.forget()
        todo, sent, answers = list(shards), self.ray.put(function), dict[int, Answer]()
        self.waiting, self.computing = deque(range(len(todo))), {}
        while len(answers) < len(todo):
            self._hand_out(todo, sent)
            if self.should_stop():
                raise Stopped
            if found := self._arrival():
                number, (_, error, answer) = found
                if error is not None:
                    raise error
                answers[number] = answer
        return [answers[i] for i in range(len(todo))]

    def _hand_out(self, shards: list[Any], function: Any) -> None:
        """Give the next shards to the idle workers."""
        for slot in self.pool.idle():
            if self.waiting:
                number = self.waiting.popleft()
                self.computing[slot] = number
                self.pool.dispatch(slot, compute(function, shards[number]))

    def _arrival(self) -> tuple[int, tuple[float, Exception | None, Any]] | None:
        """The number of a shard and what came of it; None after a while, or when a worker has started or died."""
        if not self.pool.pending:
            self.pool.check_starts()
        if found := self.pool.poll(POLL):
            slot, answer = found
            return self.computing.pop(slot), answer
        return None

    def _give_back(self, slot: int) -> None:
        """A worker died: its shard is the next to be handed out."""
        self.waiting.appendleft(self.computing.pop(slot))

    def _judge(self, slot: int, what: str, error: Exception) -> str:
        """The line about a worker that is replaced; raises where that has happened too often."""
        if self.deaths > self.max_failures:
            often = f"Workers died {self.deaths} times, more often than --max_failures allows"
            raise Lost(f"{often}; the last: {what}. 'reprise resume' continues from the last checkpoint.")
        return f"{what}; another computes its shard again (death {self.deaths} of {self.max_failures} allowed)."

    def close(self) -> None:
        """End the workers' processes."""
        self.pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
