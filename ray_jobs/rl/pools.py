"""Pools of environment runners: in this process, or Ray actors. Both give the same numbers; only Ray's can die and be replaced."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from ray_jobs.envs.failures import EnvironmentFailed
from ray_jobs.recipe import UsageError
from ray_jobs.rl.runner import Casting, EnvRunner, Fragment

START_LIMIT = 600.0
"""Seconds that a runner may take to start and play its first fragment: a cluster may have to find a node for it."""
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
        return self.runner.load(state)


class Remote:
    """Runners as Ray actors, on whatever cluster this process is connected to.

    Raises:
        UsageError: environment, options or spaces do not fit.
    """

    def __init__(self, castings: Sequence[Casting]) -> None:
        import ray

        self.ray, self.castings = ray, list(castings)
        self.actor = ray.remote(num_cpus=1, max_restarts=0)(RemoteRunner)
        self.runners = [self.actor.remote(c) for c in castings]
        self.deaths, self.longest, self.failed = 0, 0.0, [0] * len(castings)
        self.fresh = set(range(len(castings)))
        self.sent: tuple[int, Any] = (-2, None)
        self.busy: dict[Any, tuple[int, float]] = {}
        self.backlog: list[Fragment] | None = None

    def weights(self, weights: np.ndarray, version: int) -> Any:
        """The weights in the object store, put there once for each version."""
        if self.sent[0] != version:
            self.sent = (version, self.ray.put(weights))
        return self.sent[1]

    def limit(self, index: int) -> float:
        return START_LIMIT if index in self.fresh else max(CALL_LIMIT, 20 * self.longest)

    def sample(self, weights: np.ndarray, version: int, horizon: int) -> list[Fragment]:
        begun, sent = time.monotonic(), self.weights(weights, version)
        refs = [r.play.remote(sent, version, horizon) for r in self.runners]
        return [self.fetch(i, ref, begun, sent, version, horizon) for i, ref in enumerate(refs)]

    def fetch(self, index: int, ref: Any, begun: float, sent: Any, version: int, horizon: int) -> Fragment:
        """A runner's fragment; where it died, hangs or its environment failed, a replacement's, played with the same weights."""
        while True:
            try:
                return self.received(index, ref, begun)
            except (self.ray.exceptions.RayActorError, self.ray.exceptions.GetTimeoutError, EnvironmentFailed) as error:
                self.replace(index, error)
                begun, ref = time.monotonic(), self.runners[index].play.remote(sent, version, horizon)

    def got(self, refs: Any, timeout: float | None = None) -> Any:
        """What a runner's methods returned, or raised."""
        try:
            return self.ray.get(refs, timeout=timeout)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from None

    def received(self, index: int, ref: Any, begun: float) -> Fragment:
        try:
            fragment = self.got(ref, max(0.1, self.limit(index) - (time.monotonic() - begun)))
        except ValueError as error:
            raise (UsageError(str(error)) if index in self.fresh else error) from None
        if index not in self.fresh:
            self.longest = max(self.longest, fragment.acting + fragment.stepping)
        self.fresh.discard(index)
        self.failed[index] = 0
        return fragment

    def replace(self, index: int, error: Exception) -> None:
        """A new runner in the place of one that died, hangs or whose environment failed; its environments draw other numbers.

        Raises:
            UsageError: runners keep dying in this place.
            EnvironmentFailed: environments keep failing in this place.
        """
        self.deaths += 1
        self.failed[index] += 1
        if self.failed[index] >= GIVE_UP:
            if isinstance(error, EnvironmentFailed):
                raise error
            raise UsageError(
                f"Runner {index} died {GIVE_UP} times in a row ({error}): see Ray's log of it, or try --runners 0."
            )
        self.ray.kill(self.runners[index])
        self.castings[index] = replace(self.castings[index], life=self.castings[index].life + 1)
        self.runners[index] = self.actor.remote(self.castings[index])
        self.fresh.add(index)

    def next(self, weights: np.ndarray, version: int, horizon: int) -> Fragment:
        """As `Pool.next`; whoever delivered plays on at once, while the learner learns."""
        if self.backlog is None:  # the first of each come together, lest one that starts late brings old news
            self.backlog = self.sample(weights, version, horizon)
        fragment = self.backlog.pop(0) if self.backlog else self.arrival(weights, version, horizon)
        sent = self.weights(weights, version)
        self.busy[self.runners[fragment.index].play.remote(sent, version, horizon)] = (
            fragment.index,
            time.monotonic(),
        )
        return fragment

    def arrival(self, weights: np.ndarray, version: int, horizon: int) -> Fragment:
        """The fragment that is ready first, or a replacement's for one that is overdue."""
        late: list[Any] = []
        ready: list[Any] = []
        while not ready and not late:
            ready, _ = self.ray.wait(list(self.busy), timeout=1.0)
            late = [r for r, (i, begun) in self.busy.items() if time.monotonic() - begun > self.limit(i)]
        ref = (ready or late)[0]
        index, begun = self.busy.pop(ref)
        return self.fetch(index, ref, begun, self.weights(weights, version), version, horizon)

    def state(self) -> list[dict[str, Any]]:
        return self.got([r.state.remote() for r in self.runners])

    def load(self, states: Sequence[Mapping[str, Any]]) -> bool:
        return all(self.got([r.load.remote(s) for r, s in zip(self.runners, states, strict=True)]))

    def close(self) -> None:
        for r in self.runners:
            self.ray.kill(r)
