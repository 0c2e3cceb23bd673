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
from ray_jobs.rl.learning.counters import WINDOW, Counters, TimeBreakdown, counters_of
from ray_jobs.rl.learning.learner import Learner
from ray_jobs.rl.rollout.pools import Pool, Remote
from ray_jobs.rl.rollout.runner import ActingAgent, EvaluationStopped, Fragment, RunnerSpec, evaluate
from ray_jobs.run.checkpoint import taken_over

Report = Callable[[dict[str, Any]], None]
EVALUATION = {"test": 1_000_000, "validation": 1_000_001}
"""The evaluation's index among learners, which no learner has: of a final evaluation, and of a search's."""
EVALUATION_ENVS = 25
"""Environments of the evaluation, at most."""


class Recorder(Protocol):
    """Writes the metrics and checkpoints of a training: a run folder, or nothing at all."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write metrics."""
        ...

    def save(self, step: int, state: Mapping[str, Any]) -> Any:
        """Write a checkpoint."""
        ...

    def rewind(self, step: int) -> None:
        """Forget the metrics after a step: they will come again."""
        ...


def save(run: Recorder, step: int, state: Mapping[str, Any], report: Report) -> None:
    """Write a checkpoint; a full disk does not end the training."""
    try:
        run.save(step, state)
    except OSError as error:
        why = error.strerror or error
        report({"note": f"The checkpoint of step {step} could not be written ({why}). Earlier ones are kept."})


def one_at_a_time(plan: Experience) -> bool:
    """Whether runners never wait for each other: each update sees the fragment of one of them."""
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
        self.report, self.stop_requested = report, should_stop
        self.counters, self.times, self.stats, self.lag = Counters(), TimeBreakdown(), {}, 0.0
        self.plan, self.world = recipe.algorithm.experience, learner.world
        self.logged = self.saved = 0
        self.reported = (time.monotonic(), 0)

    def go(self, resume: Mapping[str, Any] | None = None, *, trusted: bool = False) -> dict[str, float]:
        """Train to the last step, to `stop_return` or until a stop is requested; then evaluate.

        Args:
            resume: a checkpoint to continue from.
            trusted: whether this same training wrote it, so that its environments may be unpickled without checks.
        """
        try:
            if resume:
                self.load(resume, trusted=trusted)
            stopped = self.loop()
            return self.summary() if stopped else self.summary() | self.evaluate()
        finally:
            self.pool.close()

    def loop(self) -> bool:
        """Train; whether it was stopped before its end."""
        start, before = time.monotonic(), self.counters.seconds
        stopped = False
        while not (stopped or self.over()):
            self.round()
            self.counters.seconds = before + time.monotonic() - start
            stopped = self.should_stop()
            self.log_and_checkpoint(last=stopped or self.over())
        return stopped and not self.over()

    def over(self) -> bool:
        """Whether all steps are done, or `stop_return` is reached."""
        return self.counters.steps >= self.recipe.steps or not math.isnan(self.counters.reached)

    def round(self) -> None:
        """One round: collect, then learn."""
        start = time.perf_counter()
        fragments = self.collect()
        collected = time.perf_counter()
        self.counters.add(fragments, self.world.size)
        self.world.progress = min(1.0, self.counters.steps / self.recipe.steps)
        self.stats = self.learner.learn(fragments, self.counters.steps) or self.stats
        self.times.add_collection(fragments, collected - start, isinstance(self.pool, Remote))
        self.times.update += time.perf_counter() - collected

    def collect(self) -> list[Fragment]:
        """New fragments, as the algorithm's kind of experience asks for."""
        weights, version, plan = self.learner.actor.pack(), self.learner.version, self.plan
        horizon = steps_each(plan, self.recipe.envs)
        if one_at_a_time(plan):
            fragment = self.pool.next(weights, version, horizon)
            self.lag = float(version - fragment.version)
            return [fragment]
        return self.pool.sample(weights, version, horizon)

    def should_stop(self) -> bool:
        """Whether to stop, the same on every learner. Notes when `stop_return` is reached."""
        mine, goal = self.counters, self.recipe.stop_return
        votes = torch.tensor(
            [float(self.stop_requested()), sum(mine.returns), float(len(mine.returns))], dtype=torch.float64
        )
        stop, total, count = self.world.mean(votes).tolist()
        solved = goal is not None and count * self.world.size >= WINDOW and total / count >= goal
        if solved and math.isnan(mine.reached):
            mine.reached = mine.seconds
        return stop > 0

    def log_and_checkpoint(self, *, last: bool) -> None:
        """Report, log and save if it is due; with `last`, in any case."""
        step, recipe = self.counters.steps, self.recipe
        if last or step - self.logged >= recipe.log_every:
            self.logged = step
            self.run.log(step, self.metrics())
            self.times = TimeBreakdown()
        if last or step - self.saved >= recipe.save_every:
            self.saved = step
            self.save(step)
        now, (then, before) = time.monotonic(), self.reported
        if last or now - then >= 0.25:
            rate = (step - before) / max(now - then, 1e-9)
            self.report(
                {"step": step, "steps": recipe.steps, "rate": rate, "unit": "steps", "metrics": self.counters.recent()}
            )
            self.reported = (now, step)

    def save(self, step: int) -> None:
        """Write a checkpoint."""
        self.finite()
        save(self.run, step, self.state(), self.report)

    def finite(self) -> dict[str, float]:
        """The last update's metrics.

        Raises:
            FloatingPointError: one is not finite.
        """
        stats = {k: float(v) for k, v in self.stats.items()}
        for name, value in stats.items():
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"{name} became {value} at step {self.counters.steps}: try a smaller lr. The checkpoint before it is kept."
                )
        return stats

    def metrics(self) -> dict[str, float]:
        """What to log now."""
        more = {"episodes": float(self.counters.episodes), "runner_deaths": float(self.pool.deaths)}
        if one_at_a_time(self.plan):
            more["policy_lag"] = self.lag
        return self.counters.recent() | self.finite() | more | self.times.fractions()

    def summary(self) -> dict[str, float]:
        """The result's metrics that need no evaluation."""
        led = self.counters
        found = {"env_steps": float(led.steps), "train_seconds": led.seconds, "runner_deaths": float(self.pool.deaths)}
        if led.returns:
            found["train_return"] = float(np.mean(led.returns))
        return found | ({} if math.isnan(led.reached) else {"seconds_to_return": led.reached})

    def evaluate(self) -> dict[str, float]:
        """The result's metrics of an evaluation; none where a stop was requested before its end: resuming evaluates again."""
        actor = self.learner.actor.to("cpu")
        try:
            return evaluate_greedy(self.recipe, self.seed, actor, self.report, self.stop_requested)
        except EvaluationStopped:
            return {}

    def state(self) -> dict[str, Any]:
        """A checkpoint: plain types, tensors, and the runners' environments as bytes in tensors. 'ledger' is its name for the counters."""
        mine = {
            "learner": self.learner.state(),
            "ledger": asdict(self.counters),
            "runners": bytes_to_tensors(self.pool.state()),
        }
        mine["logged"] = self.logged
        return {"step": self.counters.steps, "learners": self.world.gather(mine)}

    def load(self, state: Mapping[str, Any], *, trusted: bool = False) -> None:
        """Continue from a checkpoint; see `go`.

        Raises:
            UsageError: it has another number of learners or runners.
        """
        with taken_over(f"of step {state['step']}"):
            states = state["learners"]
            if len(states) != self.world.size or len(states[0]["runners"]) != len(self.pool.state()):
                raise UsageError(
                    f"The checkpoint is of {len(states)} learners with {len(states[0]['runners'])} runners each: resume with as many."
                )
            mine = states[self.world.rank]
            self.learner.load(mine["learner"])
            self.counters = counters_of(mine["ledger"])
            self.logged, self.saved = mine.get("logged", self.counters.steps), self.counters.steps
            self.reported = (time.monotonic(), self.counters.steps)
            runners = [{**s, "ours": trusted} for s in tensors_to_bytes(mine["runners"])]
        if not self.pool.load(runners):
            self.report(
                {"note": new_episodes(self.recipe.env, all(s["env"] is not None for s in runners if s["runner"]))}
            )


def evaluate_greedy(
    recipe: Play,
    seed: int,
    actor: ActingAgent,
    report: Report = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Mean and deviation of the returns of greedy episodes, on environments whose seeds no runner has.

    Where episodes were cut at `recipe.eval_steps`, 'episodes_cut' counts them.

    Raises:
        EvaluationStopped: a stop was requested.
    """
    n = min(recipe.eval_episodes, EVALUATION_ENVS)
    options, cut = dict(recipe.env_options), [0]
    spec = RunnerSpec(recipe.algorithm, recipe.env, n, seed, EVALUATION[recipe.measured_on], env_options=options)

    def on_cut(count: int) -> None:
        if not cut[0]:
            report({"note": f"Episodes of {recipe.env} in the evaluation are cut after {recipe.eval_steps:,} steps."})
        cut[0] += count

    returns = evaluate(
        spec, actor, recipe.eval_episodes, longest=recipe.eval_steps, on_cut=on_cut, should_stop=should_stop
    )
    found = {"episode_return": float(returns.mean()), "episode_return_std": float(returns.std())}
    return found | ({"episodes_cut": float(cut[0])} if cut[0] else {})


def new_episodes(env: str, kept: bool) -> str:
    """The sentence about environments that do not continue their episodes.

    Args:
        kept: whether the checkpoint has their state.
    """
    if kept:
        return f"The state of {env} holds more than plain values: its environments begin new episodes, but --trust restores them."
    return f"{env} cannot be saved midway: its environments begin new episodes."


def bytes_to_tensors(states: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Runners' states with bytes as tensors: reading a checkpoint for its weights then unpickles no environment."""
    return [
        {k: torch.frombuffer(bytearray(x), dtype=torch.uint8) if isinstance(x, bytes) else x for k, x in s.items()}
        for s in states
    ]


def tensors_to_bytes(states: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The inverse of `bytes_to_tensors`."""
    return [{k: x.numpy().tobytes() if isinstance(x, torch.Tensor) else x for k, x in s.items()} for s in states]
