"""Pools of environment runners: in this process, or Ray actors. Both give the same numbers; only Ray's can die and be replaced."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from ray_jobs.distributed.connection import PATIENCE, START_LIMIT, Lost, cause
from ray_jobs.envs.failures import EnvironmentFailed
from ray_jobs.errors import UsageError
from ray_jobs.rl.rollout.runner import Casting, EnvRunner, Fragment

Call = Callable[[Any], Any]
"""Asks a runner for something: its handle -> a reference to the answer."""
CALL_LIMIT = 60.0
"""Seconds that any later fragment may take, or 20 times the longest so far; an environment that hangs is replaced after that."""
GIVE_UP = 5
"""Deaths, or failures of an environment, in one place without a fragment in between."""


class Pool(Protocol):
    """Runners that play with given weights."""

    deaths: int

    def sample(self, weights: np.ndarray, version: int, horizon: int) -> list[Fragment]:
        """A fragment of each runner, all played with these weights, in the runners' order."""
        ...

    def next(self, weights: np.ndarray, version: int, horizon: int) -> Fragment:
        """The next fragment that any runner finishes, maybe played with older weights."""
        ...

    def state(self) -> list[dict[str, Any]]: ...
    def load(self, states: Sequence[Mapping[str, Any]]) -> bool:
        """Go on from a state. False where environments had to begin new episodes."""
        ...

    def close(self) -> None: ...


class Local:
    """Runners in this process."""

    deaths = 0

    def __init__(self, castings: Sequence[Casting]) -> None:
        self.runners = [EnvRunner(c) for c in castings]
        self.turn = itertools.cycle(self.runners)

    def sample(self, weights: np.ndarray, version: int, horizon: int) -> list[Fragment]:
        return [r.play(weights, version, horizon) for r in self.runners]

    def next(self, weights: np.ndarray, version: int, horizon: int) -> Fragment:
        return next(self.turn).play(weights, version, horizon)

    def state(self) -> list[dict[str, Any]]:
        return [r.state() for r in self.runners]

    def load(self, states: Sequence[Mapping[str, Any]]) -> bool:
        loaded = [r.load(s) for r, s in zip(self.runners, states, strict=True)]
        return all(loaded)

    def close(self) -> None:
        for r in self.runners:
            r.env.close()


class RemoteRunner:
    """A runner that is a Ray actor's whole process: one thread, for there is one core.

    It is made by the first call: what Ray says of an actor that cannot be made holds the reason in a text alone.
    """

    def __init__(self, casting: Casting) -> None:
        self.casting = casting

    @functools.cached_property
    def runner(self) -> EnvRunner:
        import torch

        torch.set_num_threads(1)
        return EnvRunner(self.casting)

    def play(self, weights: np.ndarray, version: int, horizon: int) -> Fragment:
        return self.runner.play(weights, version, horizon)

    def state(self) -> dict[str, Any]:
        return self.runner.state()

    def load(self, state: Mapping[str, Any]) -> bool:
        self.casting = replace(self.casting, life=state["life"])
        return self.runner.load(state)


class Remote:
    """Runners as Ray actors, on whatever cluster this process is connected to.

    Whoever dies, hangs or has an environment that fails is replaced, and `report` gets a note of it.

    Args:
        outside: whether they find places outside of the placement group that this process is in, which has none for them.

    Raises:
        UsageError: environment, options or spaces do not fit.
        Lost: runners keep dying in one place, or find no room on the cluster.
        EnvironmentFailed: environments keep failing in one place.
    """

    def __init__(
        self,
        castings: Sequence[Casting],
        report: Callable[[dict[str, Any]], None] = lambda event: None,
        *,
        outside: bool = False,
    ) -> None:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self.ray, self.castings, self.report = ray, list(castings), report
        place = {"scheduling_strategy": PlacementGroupSchedulingStrategy(None)} if outside else {}
        self.actor = ray.remote(num_cpus=1, max_restarts=0, **place)(RemoteRunner)
        self.runners, self.born, self.asked, self.reminded = {}, {}, {}, {}
        for i in range(len(self.castings)):
            self.bear(i)
        self.deaths, self.longest, self.failed = 0, 0.0, [0] * len(castings)
        self.fresh = set(range(len(castings)))
        self.sent: tuple[int, Any] = (-2, None)
        self.order: Call | None = None
        self.busy: dict[Any, tuple[int, float]] = {}
        self.backlog: list[Fragment] | None = None
        self.faults = (ray.exceptions.RayError, EnvironmentFailed)

    def bear(self, index: int) -> None:
        """Ask the cluster for a runner."""
        self.runners[index] = self.actor.remote(self.castings[index])
        self.born[index] = self.runners[index].__ray_ready__.remote()
        self.asked[index] = self.reminded[index] = time.monotonic()

    def play(self, weights: np.ndarray, version: int, horizon: int) -> Call:
        """The order to play; the weights are put into the object store once for each version."""
        if self.sent[0] != version:
            self.sent = (version, self.ray.put(weights))
        sent = self.sent[1]
        self.order = lambda runner: runner.play.remote(sent, version, horizon)
        return self.order

    def limit(self, index: int) -> float:
        return START_LIMIT if index in self.fresh else max(CALL_LIMIT, 20 * self.longest)

    def sample(self, weights: np.ndarray, version: int, horizon: int) -> list[Fragment]:
        found = self.ask(dict.fromkeys(range(len(self.runners)), self.play(weights, version, horizon)))
        return [self.received(f) for f in found.values()]

    def ask(self, calls: Mapping[int, Call]) -> dict[int, Any]:
        """Runners' answers to their calls, by index; where one died, hangs or its environment failed, its replacement's."""
        begun = time.monotonic()
        refs = {i: call(self.runners[i]) for i, call in calls.items()}
        return {i: self.insist(i, ref, begun, calls[i]) for i, ref in refs.items()}

    def insist(self, index: int, ref: Any, begun: float, call: Call) -> Any:
        while True:
            try:
                return self.answer(index, ref, begun)
            except self.faults as error:
                self.replace(index, error)
                begun, ref = time.monotonic(), call(self.runners[index])

    def answer(self, index: int, ref: Any, begun: float) -> Any:
        """What a runner's method returned, or raised.

        Raises:
            GetTimeoutError: it is overdue.
        """
        while True:
            left = self.limit(index) - (time.monotonic() - begun)
            try:
                return self.ray.get(ref, timeout=max(0.1, min(left, PATIENCE)))
            except self.ray.exceptions.RayTaskError as error:
                unfit = index in self.fresh and isinstance(error.cause, ValueError)
                raise (UsageError(str(error.cause)) if unfit else error.cause) from None
            except self.ray.exceptions.GetTimeoutError:
                if left <= PATIENCE:
                    raise
                self.remind()

    def received(self, fragment: Fragment) -> Fragment:
        """Whoever delivers lives."""
        if fragment.index not in self.fresh:
            self.longest = max(self.longest, fragment.acting + fragment.stepping)
        self.fresh.discard(fragment.index)
        self.failed[fragment.index] = 0
        return fragment

    def placed(self, index: int) -> bool:
        """Whether a runner's process has started: a cluster that is full lets it wait."""
        return bool(self.ray.wait([self.born[index]], timeout=0)[0])

    def remind(self) -> None:
        """Say, now and then, who waits for a place."""
        now = time.monotonic()
        for i in [i for i in sorted(self.fresh) if now - self.reminded[i] >= PATIENCE and not self.placed(i)]:
            self.reminded[i] = now
            self.report({"note": f"Runner {i} has waited {now - self.asked[i]:.0f} s for a free CPU on the cluster."})

    def happened(self, index: int, error: Exception) -> str:
        """What became of a runner, as the beginning of a sentence."""
        if isinstance(error, EnvironmentFailed):
            return str(error).rstrip(".")
        if not isinstance(error, self.ray.exceptions.GetTimeoutError):
            return f"Runner {index} died ({cause(error)})"
        if self.placed(index):
            return f"Runner {index} gave no answer for {self.limit(index):.0f} s"
        raise Lost(
            f"Runner {index} found no free CPU on the cluster within {START_LIMIT:.0f} s: "
            "make room and resume, or begin with fewer --runners."
        )

    def replace(self, index: int, error: Exception) -> None:
        """A new runner in the place of one that died, hangs or whose environment failed; its environments draw other numbers."""
        how = self.happened(index, error)
        self.deaths += 1
        self.failed[index] += 1
        if self.failed[index] >= GIVE_UP:
            often = Lost(f"{how}, {GIVE_UP} times in a row: see Ray's log of it, or try --runners 0.")
            raise error if isinstance(error, EnvironmentFailed) else often
        self.report({"note": f"{how}; a new one plays in its place."})
        self.ray.kill(self.runners[index])
        self.castings[index] = replace(self.castings[index], life=self.castings[index].life + 1)
        self.bear(index)
        self.fresh.add(index)
        for ref in [r for r, (i, _) in self.busy.items() if i == index and not self.delivered(r)]:
            del self.busy[ref]
            self.dispatch(index)

    def delivered(self, ref: Any) -> bool:
        """Whether a fragment is there, though its runner be dead."""
        try:
            return self.ray.get(ref, timeout=0) is not None
        except Exception:  # whatever it is, it is no fragment
            return False

    def dispatch(self, index: int) -> None:
        """Let a runner play on by the newest order."""
        if self.order:
            self.busy[self.order(self.runners[index])] = (index, time.monotonic())

    def next(self, weights: np.ndarray, version: int, horizon: int) -> Fragment:
        """As `Pool.next`; whoever delivered plays on at once, while the learner learns."""
        if self.backlog is None:  # the first of each come together, lest one that starts late brings old news
            self.backlog = self.sample(weights, version, horizon)
        self.play(weights, version, horizon)
        fragment = self.backlog.pop(0) if self.backlog else self.arrival()
        self.dispatch(fragment.index)
        return fragment

    def arrival(self) -> Fragment:
        """The fragment that is ready first. Nobody waits for whoever must be replaced: he plays when he can."""
        while True:
            ready, _ = self.ray.wait(list(self.busy), timeout=1.0)
            for ref in self.overdue(idle=not ready) + ready:
                index, begun = self.busy.pop(ref)
                try:
                    return self.received(self.answer(index, ref, begun))
                except self.faults as error:
                    self.replace(index, error)
                    self.dispatch(index)

    def overdue(self, *, idle: bool) -> list[Any]:
        """Who hangs. As long as others deliver, nobody is given up for want of a place."""
        self.remind()
        now = time.monotonic()
        late = [r for r, (i, begun) in self.busy.items() if now - begun > self.limit(i)]
        return [r for r in late if idle or self.placed(self.busy[r][0])]

    def state(self) -> list[dict[str, Any]]:
        """As `Pool.state`; a fragment that is under way, or waits to be learned from, will be missed by whoever goes on from it."""
        ahead = {i for i, _ in self.busy.values()} | {f.index for f in self.backlog or ()}
        begun = time.monotonic()
        refs = {i: r.state.remote() for i, r in self.runners.items() if i not in self.fresh or self.placed(i)}
        return [self.snapshot(i, refs.get(i), begun) | {"ahead": i in ahead} for i in range(len(self.runners))]

    def snapshot(self, index: int, ref: Any, begun: float) -> dict[str, Any]:
        """A runner's state. Nobody waits for one that has no place yet, or has just been replaced: there is nothing to keep of it."""
        try:
            if ref:
                return self.answer(index, ref, begun)
        except self.faults as error:
            self.replace(index, error)
        return {"env": None, "runner": None, "life": self.castings[index].life}

    def load(self, states: Sequence[Mapping[str, Any]]) -> bool:
        self.castings = [replace(c, life=s["life"]) for c, s in zip(self.castings, states, strict=True)]
        return all(self.ask({i: lambda r, s=s: r.load.remote(s) for i, s in enumerate(states)}).values())

    def close(self) -> None:
        for r in self.runners.values():
            self.ray.kill(r)
