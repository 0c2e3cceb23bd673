"""Pools of environment runners: in this process, or as Ray actors. Both give the same fragments; only Ray actors are replaced."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from ray_jobs.distributed.actor_pool import ActorPool, Call, Rules, actor_class
from ray_jobs.distributed.connection import Lost
from ray_jobs.envs.failures import EnvironmentFailed
from ray_jobs.errors import UsageError
from ray_jobs.rl.rollout.runner import EnvRunner, Fragment, RunnerSpec

GIVE_UP = 5
"""Deaths, or failures of an environment, in one slot without a fragment in between, after which training ends."""


class Pool(Protocol):
    """Runners that play with given weights."""

    deaths: int

    def sample(self, weights: np.ndarray, version: int, horizon: int) -> list[Fragment]:
        """A fragment of each runner, all played with these weights, in the runners' order."""
        ...

    def next(self, weights: np.ndarray, version: int, horizon: int) -> Fragment:
        """The next fragment that any runner finishes, maybe played with older weights."""
        ...

    def state(self) -> list[dict[str, Any]]:
        """Every runner's state."""
        ...

    def load(self, states: Sequence[Mapping[str, Any]]) -> bool:
        """Continue from runners' states. False where environments had to begin new episodes."""
        ...

    def close(self) -> None:
        """End the runners."""
        ...


class Local:
    """Runners in this process."""

    deaths = 0

    def __init__(self, specs: Sequence[RunnerSpec]) -> None:
        self.runners = [EnvRunner(c) for c in specs]
        self.turn = itertools.cycle(self.runners)

    def sample(self, weights: np.ndarray, version: int, horizon: int) -> list[Fragment]:
        """As `Pool.sample`."""
        return [r.play(weights, version, horizon) for r in self.runners]

    def next(self, weights: np.ndarray, version: int, horizon: int) -> Fragment:
        """As `Pool.next`."""
        return next(self.turn).play(weights, version, horizon)

    def state(self) -> list[dict[str, Any]]:
        """As `Pool.state`."""
        return [r.state() for r in self.runners]

    def load(self, states: Sequence[Mapping[str, Any]]) -> bool:
        """As `Pool.load`."""
        loaded = [r.load(s) for r, s in zip(self.runners, states, strict=True)]
        return all(loaded)

    def close(self) -> None:
        """As `Pool.close`."""
        for r in self.runners:
            r.env.close()


class RemoteRunner:
    """A runner that is a Ray actor's whole process, with one thread because it has one core.

    The first call makes the runner: Ray reports the reason why an actor could not be made only as text.
    """

    def __init__(self, spec: RunnerSpec) -> None:
        self.spec = spec

    @functools.cached_property
    def runner(self) -> EnvRunner:
        """The runner in this process.

        Raises:
            UsageError: environment, options or spaces do not fit.
        """
        import torch

        torch.set_num_threads(1)
        try:
            return EnvRunner(self.spec)
        except ValueError as error:
            raise UsageError(str(error)) from None

    def play(self, weights: np.ndarray, version: int, horizon: int) -> Fragment:
        """As `EnvRunner.play`."""
        return self.runner.play(weights, version, horizon)

    def state(self) -> dict[str, Any]:
        """As `EnvRunner.state`."""
        return self.runner.state()

    def load(self, state: Mapping[str, Any]) -> bool:
        """As `EnvRunner.load`."""
        self.spec = replace(self.spec, attempt=state["life"])
        return self.runner.load(state)


class Remote:
    """Runners as Ray actors, on the cluster that this process is connected to.

    A runner that dies, hangs or has an environment that fails is replaced, and `report` gets a note of it.

    Args:
        outside: whether they are placed outside of the placement group that this process is in, which has no room for them.

    Raises:
        UsageError: environment, options or spaces do not fit.
        Lost: runners keep dying in one slot, or find no free CPU on the cluster.
        EnvironmentFailed: environments keep failing in one slot.
    """

    def __init__(
        self,
        specs: Sequence[RunnerSpec],
        report: Callable[[dict[str, Any]], None] = lambda event: None,
        *,
        outside: bool = False,
    ) -> None:
        specs, actor = list(specs), actor_class(RemoteRunner, outside=outside)
        self.sent: tuple[int, Any] = (-2, None)
        self.newest: Call | None = None
        self.backlog: list[Fragment] | None = None
        rules = Rules(
            name="Runner",
            fewer="begin with fewer --runners",
            seconds=lambda fragment: fragment.acting + fragment.stepping,
            judge=self.judge,
            again=lambda slot: self.newest,
            failures=(EnvironmentFailed,),
        )
        self.actors = ActorPool(
            len(specs), lambda slot, attempt: actor.remote(replace(specs[slot], attempt=attempt)), rules, report
        )

    @property
    def deaths(self) -> int:
        """Runners that were replaced."""
        return self.actors.deaths

    def judge(self, slot: int, what: str, error: Exception) -> str:
        """The line about a runner that is replaced; raises where that has happened too often."""
        if self.actors.slots[slot].failures < GIVE_UP:
            return f"{what}; a new one plays in its place."
        if isinstance(error, EnvironmentFailed):
            raise error
        raise Lost(f"{what}, {GIVE_UP} times in a row: see Ray's log of it, or try --runners 0.")

    def play(self, weights: np.ndarray, version: int, horizon: int) -> Call:
        """The call to play; the weights are put into the object store once for each version."""
        if self.sent[0] != version:
            self.sent = (version, self.actors.ray.put(weights))
        sent = self.sent[1]
        self.newest = lambda runner: runner.play.remote(sent, version, horizon)
        return self.newest

    def sample(self, weights: np.ndarray, version: int, horizon: int) -> list[Fragment]:
        """As `Pool.sample`."""
        call = self.play(weights, version, horizon)
        found = self.actors.ask(dict.fromkeys(range(len(self.actors.slots)), call))
        for slot, fragment in found.items():
            self.actors.delivered(slot, fragment)
        return list(found.values())

    def next(self, weights: np.ndarray, version: int, horizon: int) -> Fragment:
        """As `Pool.next`; the runner that delivered continues to play at once, while the learner learns."""
        if (
            self.backlog is None
        ):  # the first fragments are awaited together: a runner that starts late would bring old ones
            self.backlog = self.sample(weights, version, horizon)
        call = self.play(weights, version, horizon)
        fragment = self.backlog.pop(0) if self.backlog else self.actors.next()[1]
        self.actors.dispatch(fragment.index, call)
        return fragment

    def state(self) -> list[dict[str, Any]]:
        """As `Pool.state`; fragments that are under way, or wait to be learned from, are not part of it."""
        ahead = {i for i, _ in self.actors.pending.values()} | {f.index for f in self.backlog or ()}
        found = self.actors.ask_present(lambda runner: runner.state.remote())
        return [found.get(s.index, absent(s.attempt)) | {"ahead": s.index in ahead} for s in self.actors.slots]

    def load(self, states: Sequence[Mapping[str, Any]]) -> bool:
        """As `Pool.load`."""
        for slot, state in zip(self.actors.slots, states, strict=True):
            slot.attempt = state["life"]
        return all(self.actors.ask({i: lambda r, s=s: r.load.remote(s) for i, s in enumerate(states)}).values())

    def close(self) -> None:
        """End the runners' processes."""
        self.actors.close()


def absent(attempt: int) -> dict[str, Any]:
    """The state of a runner that has no process yet, or was just replaced: there is nothing to keep."""
    return {"env": None, "runner": None, "life": attempt}
