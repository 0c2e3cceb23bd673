"""The one loop: runners -> experience -> learner -> weights -> runners. It knows kinds of experience, and no algorithm."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import torch

from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Play
from ray_jobs.rl.contract import Experience, Gradients, Replay, Stream
from ray_jobs.rl.learning.counters import WINDOW, Ledger, Shares
from ray_jobs.rl.learning.learner import Learner
from ray_jobs.rl.rollout.pools import Pool, Remote
from ray_jobs.rl.rollout.runner import ActingAgent, Fragment, RunnerSpec, evaluate

Report = Callable[[dict[str, Any]], None]
EVALUATION = 1_000_000
"""The place, among learners, of the evaluation: no learner has it."""
AT_ONCE = 25
"""Environments of the evaluation, at most."""


class Recorder(Protocol):
    """Where a training leaves its metrics and checkpoints: a run folder, or nothing at all."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...
    def save(self, step: int, state: Mapping[str, Any]) -> Any: ...
    def rewind(self, step: int) -> None:
        """Forget the metrics after a step: they come again."""
        ...


def save(run: Recorder, step: int, state: Mapping[str, Any], report: Report) -> None:
    """Write a checkpoint; a disk that is full ends no training."""
    try:
        run.save(step, state)
    except OSError as error:
        why = error.strerror or error
        report({"note": f"The checkpoint of step {step} could not be written ({why}). Earlier ones are kept."})


def one_at_a_time(plan: Experience) -> bool:
    """Whether runners never wait for each other: each update sees what one of them has brought."""
    return isinstance(plan, Stream | Gradients) or (isinstance(plan, Replay) and plan.asynchronous)


def steps_each(plan: Experience, envs: int) -> int:
    """Steps of every environment between updates, or rounds of updates."""
    return max(1, plan.length, plan.every // envs) if isinstance(plan, Replay) else plan.horizon


class Training:
    """One learner's training; `go` runs it to its end."""

    def __init__(
        self,
        recipe: Play,
        seed: int,
        learner: Learner,
        pool: Pool,
        run: Recorder,
        report: Report,
        should_stop: Callable[[], bool],
    ) -> None:
        self.recipe, self.seed, self.learner, self.pool, self.run = recipe, seed, learner, pool, run
        self.report, self.should_stop = report, should_stop
        self.ledger, self.shares, self.stats, self.lag = Ledger(), Shares(), {}, 0.0
        self.plan, self.world = recipe.algorithm.experience, learner.world
        self.logged = self.saved = 0
        self.told = (time.monotonic(), 0)

    def go(self, resume: Mapping[str, Any] | None = None, *, ours: bool = False) -> dict[str, float]:
        """Train to the last step, to `stop_return` or until told to stop; then evaluate.

        Args:
            resume: a checkpoint to go on from.
            ours: whether this very training has written it, and not whoever made a run folder.
        """
        try:
            if resume:
                self.load(resume, ours=ours)
            stopped = self.loop()
            return self.summary() if stopped else self.summary() | self.evaluate()
        finally:
            self.pool.close()

    def loop(self) -> bool:
        """Whether it was told to stop."""
        start, before = time.monotonic(), self.ledger.seconds
        stopped = False
        while not (stopped or self.over()):
            self.round()
            self.ledger.seconds = before + time.monotonic() - start
            stopped = self.verdict()
            self.leave_word(last=stopped or self.over())
        return stopped and not self.over()

    def over(self) -> bool:
        """Whether all steps are done, or `stop_return` is reached."""
        return self.ledger.steps >= self.recipe.steps or not math.isnan(self.ledger.reached)

    def round(self) -> None:
        """Collect, learn."""
        begun = time.perf_counter()
        fragments = self.collect()
        collected = time.perf_counter()
        self.ledger.add(fragments, self.world.size)
        self.world.progress = min(1.0, self.ledger.steps / self.recipe.steps)
        self.stats = self.learner.learn(fragments, self.ledger.steps) or self.stats
        self.shares.collected(fragments, collected - begun, isinstance(self.pool, Remote))
        self.shares.update += time.perf_counter() - collected

    def collect(self) -> list[Fragment]:
        """New experience of the kind that the algorithm asks for."""
        weights, version, plan = self.learner.actor.pack(), self.learner.version, self.plan
        horizon = steps_each(plan, self.recipe.envs)
        if one_at_a_time(plan):
            fragment = self.pool.next(weights, version, horizon)
            self.lag = float(version - fragment.version)
            return [fragment]
        return self.pool.sample(weights, version, horizon)

    def verdict(self) -> bool:
        """Whether to stop; notes when `stop_return` is reached. The same on every learner."""
        mine, goal = self.ledger, self.recipe.stop_return
        told = torch.tensor(
            [float(self.should_stop()), sum(mine.returns), float(len(mine.returns))], dtype=torch.float64
        )
        stop, total, count = self.world.mean(told).tolist()
        solved = goal is not None and count * self.world.size >= WINDOW and total / count >= goal
        if solved and math.isnan(mine.reached):
            mine.reached = mine.seconds
        return stop > 0

    def leave_word(self, *, last: bool) -> None:
        """Report, log and save, whatever is due; `last` logs and saves in any case."""
        step, recipe = self.ledger.steps, self.recipe
        if last or step - self.logged >= recipe.log_every:
            self.logged = step
            self.run.log(step, self.metrics())
            self.shares = Shares()
        if last or step - self.saved >= recipe.save_every:
            self.saved = step
            self.save(step)
        now, (then, before) = time.monotonic(), self.told
        if last or now - then >= 0.25:
            rate = (step - before) / max(now - then, 1e-9)
            self.report(
                {"step": step, "steps": recipe.steps, "rate": rate, "unit": "steps", "metrics": self.ledger.recent()}
            )
            self.told = (now, step)

    def save(self, step: int) -> None:
        """Write a checkpoint."""
        self.finite()
        save(self.run, step, self.state(), self.report)

    def finite(self) -> dict[str, float]:
        """The last update's numbers.

        Raises:
            FloatingPointError: one is not finite.
        """
        stats = {k: float(v) for k, v in self.stats.items()}
        for name, value in stats.items():
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"{name} became {value} at step {self.ledger.steps}: try a smaller lr. The checkpoint before it is kept."
                )
        return stats

    def metrics(self) -> dict[str, float]:
        more = {"episodes": float(self.ledger.episodes), "runner_deaths": float(self.pool.deaths)}
        if one_at_a_time(self.plan):
            more["policy_lag"] = self.lag
        return self.ledger.recent() | self.finite() | more | self.shares.fractions()

    def summary(self) -> dict[str, float]:
        """The training's own results."""
        led = self.ledger
        found = {"env_steps": float(led.steps), "train_seconds": led.seconds, "runner_deaths": float(self.pool.deaths)}
        if led.returns:
            found["train_return"] = float(np.mean(led.returns))
        return found | ({} if math.isnan(led.reached) else {"seconds_to_return": led.reached})

    def evaluate(self) -> dict[str, float]:
        return greedy(self.recipe, self.seed, self.learner.actor.to("cpu"))

    def state(self) -> dict[str, Any]:
        """A checkpoint: plain types, tensors, and the runners' environments as bytes in tensors."""
        mine = {"learner": self.learner.state(), "ledger": asdict(self.ledger), "runners": frozen(self.pool.state())}
        mine["logged"] = self.logged
        return {"step": self.ledger.steps, "learners": self.world.gather(mine)}

    def load(self, state: Mapping[str, Any], *, ours: bool = False) -> None:
        """Go on from a checkpoint; see `go`.

        Raises:
            UsageError: it is of another number of learners or runners.
        """
        states = state["learners"]
        if len(states) != self.world.size or len(states[0]["runners"]) != len(self.pool.state()):
            raise UsageError(
                f"The checkpoint is of {len(states)} learners with {len(states[0]['runners'])} runners each: resume with as many."
            )
        mine = states[self.world.rank]
        self.learner.load(mine["learner"])
        self.ledger = Ledger(**mine["ledger"])
        self.logged, self.saved = mine.get("logged", self.ledger.steps), self.ledger.steps
        self.told = (time.monotonic(), self.ledger.steps)
        runners = [{**s, "ours": ours} for s in thawed(mine["runners"])]
        if not self.pool.load(runners):
            self.report({"note": f"{self.recipe.env} cannot be saved midway: its environments begin new episodes."})


def greedy(recipe: Play, seed: int, actor: ActingAgent) -> dict[str, float]:
    """Greedy episodes, with what is learned frozen, on environments whose seeds no runner has."""
    n = min(recipe.eval_episodes, AT_ONCE)
    options = dict(recipe.env_options)
    spec = RunnerSpec(recipe.algorithm, recipe.env, n, seed, EVALUATION, env_options=options)
    returns = evaluate(spec, actor, recipe.eval_episodes)
    return {"episode_return": float(returns.mean()), "episode_return_std": float(returns.std())}


def frozen(states: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Bytes as tensors: a checkpoint that is read for its weights never unpickles an environment."""
    return [
        {k: torch.frombuffer(bytearray(x), dtype=torch.uint8) if isinstance(x, bytes) else x for k, x in s.items()}
        for s in states
    ]


def thawed(states: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The inverse of `frozen`."""
    return [{k: x.numpy().tobytes() if isinstance(x, torch.Tensor) else x for k, x in s.items()} for s in states]
