"""A pool of Ray actors that are replaced when they die, hang or fail; it knows nothing of what they compute.

Actors live in numbered slots. A call is a function from an actor's handle to the reference of the answer. `ask` waits for the answers of
several actors; `dispatch` starts a call in the background, and `poll` and `next` return such answers in the order in which they are ready.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray_jobs.compat import actor_ready
from ray_jobs.distributed.connection import PATIENCE, START_LIMIT, Lost, cause

Call = Callable[[Any], Any]
"""Starts a method of an actor: its handle -> a reference to the answer."""
CALL_LIMIT = 60.0
"""Seconds that any later answer may take, or 20 times the longest so far; an actor that hangs is replaced after that."""


def call_limit(fresh: bool, longest: float) -> float:
    """Seconds that an answer may take.

    Args:
        fresh: whether the actor has not answered yet: it may have to wait for a node.
        longest: seconds of the longest answer so far, first answers excepted.
    """
    return START_LIMIT if fresh else max(CALL_LIMIT, 20 * longest)


def none_again(slot: int) -> None:
    """For `Rules.again`: the new actor gets no call."""


@dataclass(frozen=True)
class Rules:
    """What a pool cannot know by itself."""

    name: str
    """Of an actor, in sentences: 'Runner'."""
    fewer: str
    """How to do with fewer actors, as the end of a sentence: 'begin with fewer --runners'."""
    seconds: Callable[[Any], float]
    """Seconds that an answer took to compute."""
    judge: Callable[[int, str, Exception], str]
    """Called with a slot, the beginning of a sentence about what happened to its actor, and the error: returns the line to report, or
    raises where no actor is to be tried again."""
    again: Callable[[int], Call | None] = none_again
    """The call that a slot's new actor gets in place of a dispatched one whose answer was lost; None where it gets none."""
    failures: tuple[type[Exception], ...] = ()
    """Errors of a method after which an actor is replaced; all others are raised in the driver."""
    limit: Callable[[bool, float], float] = call_limit
    """As `call_limit`."""


@dataclass
class Slot:
    """A numbered slot of the pool, and the actor that is in it now."""

    index: int
    handle: Any = None
    ready_ref: Any = None
    """Resolves when the actor's process has started."""
    attempt: int = 0
    """How many actors there were in it before."""
    asked: float = 0.0
    """When the cluster was asked for the actor, by `time.monotonic`."""
    reminded: float = 0.0
    """When the user was last reminded that it waits."""
    fresh: bool = True
    """Whether the actor has not delivered an answer yet."""
    failures: int = 0
    """Actors that died, hung or failed in it since the last answer."""


class ActorPool:
    """Actors on the Ray cluster that this process is connected to.

    Args:
        size: actors.
        make: asks the cluster for the actor of a slot and an attempt, and returns its handle.
        rules: names, limits, and what to do when an actor fails.
        report: gets a note of each replacement, and of actors that wait for a CPU.

    Raises:
        Lost: an actor finds no CPU on the cluster. Besides, whatever `rules.judge` raises.
    """

    def __init__(
        self,
        size: int,
        make: Callable[[int, int], Any],
        rules: Rules,
        report: Callable[[dict[str, Any]], None] = lambda event: None,
    ) -> None:
        import ray

        self.ray: Any = ray
        self.make, self.rules, self.report = make, rules, report
        self.faults: tuple[type[Exception], ...] = (ray.exceptions.RayError, *rules.failures)
        self.deaths, self.longest = 0, 0.0
        self.pending: dict[Any, tuple[int, float]] = {}
        """Dispatched calls: the answer's reference -> its slot, and when it was dispatched."""
        self.slots = [Slot(i) for i in range(size)]
        for slot in self.slots:
            self.start(slot)

    def start(self, slot: Slot) -> None:
        """Ask the cluster for a slot's actor."""
        slot.handle, slot.fresh = self.make(slot.index, slot.attempt), True
        slot.ready_ref = actor_ready(slot.handle)
        slot.asked = slot.reminded = time.monotonic()

    def placed(self, slot: Slot) -> bool:
        """Whether the process of a slot's actor has started: a cluster that is full lets it wait."""
        return not slot.fresh or bool(self.ray.wait([slot.ready_ref], timeout=0)[0])

    def limit(self, slot: Slot) -> float:
        """Seconds that the slot's next answer may take."""
        return self.rules.limit(slot.fresh, self.longest)

    def ask(self, calls: Mapping[int, Call]) -> dict[int, Any]:
        """Answers to the calls, by slot; where an actor fails, the answer of its replacement."""
        since = time.monotonic()
        refs = {i: call(self.slots[i].handle) for i, call in calls.items()}
        return {i: self._insist(self.slots[i], ref, since, calls[i]) for i, ref in refs.items()}

    def _insist(self, slot: Slot, ref: Any, since: float, call: Call) -> Any:
        """The answer `ref`, or that of the first replacement which gives one."""
        while True:
            try:
                return self._answer(slot, ref, since)
            except self.faults as error:
                self.replace(slot, error)
                since, ref = time.monotonic(), call(slot.handle)

    def ask_present(self, call: Call) -> dict[int, Any]:
        """Answers to a call, by slot, of the actors that are there; one that has no process yet, or fails now, is left out."""
        since = time.monotonic()
        refs = {s.index: call(s.handle) for s in self.slots if self.placed(s)}
        answers = {}
        for i, ref in refs.items():
            try:
                answers[i] = self._answer(self.slots[i], ref, since)
            except self.faults as error:
                self.replace(self.slots[i], error)
        return answers

    def _answer(self, slot: Slot, ref: Any, since: float) -> Any:
        """What an actor's method returned, or raised.

        Raises:
            GetTimeoutError: it is overdue.
        """
        while True:
            left = self.limit(slot) - (time.monotonic() - since)
            try:
                return self.ray.get(ref, timeout=max(0.1, min(left, PATIENCE)))
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self.ray.exceptions.GetTimeoutError:
                if left <= PATIENCE:
                    raise
                self._remind()

    def delivered(self, index: int, answer: Any) -> None:
        """Note that a slot's actor works."""
        slot = self.slots[index]
        if not slot.fresh:
            self.longest = max(self.longest, self.rules.seconds(answer))
        slot.fresh, slot.failures = False, 0

    def dispatch(self, index: int, call: Call) -> None:
        """Start a call in the background; `poll` returns its answer."""
        self.pending[call(self.slots[index].handle)] = (index, time.monotonic())

    def idle(self) -> list[int]:
        """Slots whose actor has started and has no dispatched call."""
        busy = {i for i, _ in self.pending.values()}
        return [s.index for s in self.slots if s.index not in busy and self.placed(s)]

    def next(self) -> tuple[int, Any]:
        """Slot and answer of the dispatched call that is ready first. Does not wait for an actor that is being replaced."""
        while True:
            if found := self.poll(1.0):
                return found

    def poll(self, timeout: float) -> tuple[int, Any] | None:
        """As `next`; None after `timeout` seconds, and when an actor has failed or has started."""
        starting = [s.ready_ref for s in self.slots if not self.placed(s)]
        if not (self.pending or starting):
            return None
        ready, _ = self.ray.wait([*self.pending, *starting], timeout=timeout)
        for ref in self._overdue(idle=not ready) + ready:
            if ref not in self.pending:  # it is a start, or its actor was replaced just now
                continue
            index, since = self.pending.pop(ref)
            try:
                answer = self._answer(self.slots[index], ref, since)
            except self.faults as error:
                self.replace(self.slots[index], error)
                self._again(index)
            else:
                self.delivered(index, answer)
                return index, answer
        return None

    def _overdue(self, *, idle: bool) -> list[Any]:
        """Dispatched calls that take too long. While other actors deliver, none is given up because it has no CPU."""
        self._remind()
        now = time.monotonic()
        late = [r for r, (i, since) in self.pending.items() if now - since > self.limit(self.slots[i])]
        return [r for r in late if idle or self.placed(self.slots[self.pending[r][0]])]

    def _remind(self) -> None:
        """Report, now and then, which actors wait for a CPU."""
        now = time.monotonic()
        for slot in self.slots:
            if slot.fresh and now - slot.reminded >= PATIENCE and not self.placed(slot):
                slot.reminded = now
                waited = f"{self.rules.name} {slot.index} has waited {now - slot.asked:.0f} s"
                self.report({"note": f"{waited} for a free CPU on the cluster."})

    def check_starts(self) -> None:
        """For an owner that dispatches only to actors that have started.

        Raises:
            Lost: none has, and one was asked for longer than START_LIMIT ago.
        """
        self._remind()
        oldest = min(self.slots, key=lambda slot: slot.asked)
        if time.monotonic() - oldest.asked > START_LIMIT and not any(map(self.placed, self.slots)):
            raise self._without_cpu(oldest)

    def _without_cpu(self, slot: Slot) -> Lost:
        return Lost(
            f"{self.rules.name} {slot.index} found no free CPU on the cluster within {START_LIMIT:.0f} s: "
            f"make room and resume, or {self.rules.fewer}."
        )

    def _what_happened(self, slot: Slot, error: Exception) -> str:
        """The beginning of a sentence about an actor that failed.

        Raises:
            Lost: it never started.
        """
        if isinstance(error, self.rules.failures):
            return str(error).rstrip(".")
        if not isinstance(error, self.ray.exceptions.GetTimeoutError):
            return f"{self.rules.name} {slot.index} died ({cause(error)})"
        if self.placed(slot):
            return f"{self.rules.name} {slot.index} gave no answer for {self.limit(slot):.0f} s"
        raise self._without_cpu(slot)

    def replace(self, slot: Slot, error: Exception) -> None:
        """Put a new actor into a slot. Its dispatched calls that have no answer yet are dispatched again as `rules.again` says."""
        what = self._what_happened(slot, error)
        self.deaths += 1
        slot.failures += 1
        self.report({"note": self.rules.judge(slot.index, what, error)})
        self.ray.kill(slot.handle)
        slot.attempt += 1
        self.start(slot)
        for ref in [r for r, (i, _) in self.pending.items() if i == slot.index and not self._arrived(r)]:
            del self.pending[ref]
            self._again(slot.index)

    def _again(self, index: int) -> None:
        if call := self.rules.again(index):
            self.dispatch(index, call)

    def _arrived(self, ref: Any) -> bool:
        """Whether an answer is here, even if its actor is dead."""
        try:
            return self.ray.get(ref, timeout=0) is not None
        except Exception:  # any error means that there is no answer
            return False

    def forget(self) -> None:
        """Drop all dispatched calls; actors finish the ones that they are in."""
        self.pending.clear()

    def close(self) -> None:
        """End all actors."""
        self.pending.clear()
        for slot in self.slots:
            self.ray.kill(slot.handle)


def actor_class(cls: type, *, outside: bool = False) -> Any:
    """A class as a Ray actor on one CPU that Ray does not restart by itself.

    Args:
        outside: whether its actors are placed outside of the placement group that this process is in, which has no room for them.
    """
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy as Strategy

    options: dict[str, Any] = {"num_cpus": 1, "max_restarts": 0}
    if outside:
        options["scheduling_strategy"] = Strategy(None)  # type: ignore[arg-type]
    return ray.remote(**options)(cls)  # type: ignore[call-overload]
