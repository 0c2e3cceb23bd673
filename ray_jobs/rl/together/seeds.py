"""Several seeds of a recipe trained in one process: each algorithm's own `act` and `update`, called once for all of them.

A seed is an ordinary Training, whose networks, optimisers and replay are stacked with the others' while they train, and written back
whenever it logs, saves or ends; environments, generators and ledgers stay its own. So its checkpoints are those of a seed alone, and
its numbers too, up to the order of sums.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ray_jobs.rl.contract import Alone, Experience, Replay, Steps, Transitions
from ray_jobs.rl.fast.generators import as_one
from ray_jobs.rl.fast.seed_stacks import StackedModule, StackedOptimizer, parameters_of
from ray_jobs.rl.fast.vmapped import unwrap, vmap_seeds, wrap
from ray_jobs.rl.learning.learner import Learner
from ray_jobs.rl.learning.training import Training, steps_each
from ray_jobs.rl.rollout.fragments import Fragment
from ray_jobs.rl.rollout.pools import Local
from ray_jobs.rl.together.replay import StackedBuffer, seen_by_each

Done = Callable[[Training, dict[str, float]], None]
"""Gets a seed's training and the metrics of its result."""
Failed = Callable[[Training, Exception], None]


class Together:
    """Trainings of the same recipe at the same step, each with one learner and its environments in this process.

    Raises:
        ValueError: the algorithm keeps what cannot be stacked.
    """

    def __init__(self, trainings: Sequence[Training]) -> None:
        self.recipe, self.plan = trainings[0].recipe, trainings[0].plan
        self.algorithm = self.recipe.algorithm
        self.stats: dict[str, Tensor] = {}
        """Of the last update, [S] each."""
        self.unmeasured = False
        """Whether a seed reached its last step, and its evaluation was stopped."""
        self.stack(trainings)

    @property
    def singles(self) -> list[Learner]:
        """Each seed's own learner."""
        return [t.learner for t in self.trainings]

    def stack(self, trainings: Sequence[Training]) -> None:
        """One learner of all these seeds' numbers."""
        self.trainings = list(trainings)
        self.runners = [t.pool.runners[0] for t in self.trainings if isinstance(t.pool, Local)]
        for t, runner in zip(self.trainings, self.runners, strict=True):
            if runner.begins:  # its next step does not follow the last one in the buffer
                t.learner.restart_columns(str(runner.spec.index), torch.ones(runner.spec.envs, dtype=torch.bool))
                runner.begins = False
        self.rngs = as_one([r.rng for r in self.runners])
        singles, first = self.singles, self.singles[0]
        named = [dict(learner.actor.named_parameters()) for learner in singles]
        optimizers, leaves = {}, {}
        for k, o in first.optimizers.items():
            names = parameters_of(o, first.actor)
            optimizers[k] = made = StackedOptimizer(
                [x.optimizers[k] for x in singles], [[p[n] for n in names] for p in named]
            )
            leaves |= dict(zip(names, made.leaves, strict=True))
        self.module = StackedModule([learner.actor for learner in singles], leaves)
        self.learner = copy.copy(first)
        self.learner.actor, self.learner.optimizers = self.module.module, optimizers
        self.learner.largest = len(singles) * first.largest
        self.learner.world = Alone(as_one([x.world.rng for x in singles]), first.world.progress)
        if first.buffer is not None:
            self.learner.buffer = StackedBuffer([x.buffer for x in singles if x.buffer is not None])

    def write_back(self) -> None:
        """Let every training hold what has become of it."""
        self.module.write_back([learner.actor for learner in self.singles])
        for k, o in self.learner.optimizers.items():
            o.write_back([learner.optimizers[k] for learner in self.singles])
        for s, t in enumerate(self.trainings):
            t.stats = {k: x[s] for k, x in self.stats.items()}
            t.learner.version, t.learner.pending_updates = self.learner.version, self.learner.pending_updates
            t.world.progress = self.learner.world.progress

    # ---- one round

    def round(self) -> None:
        """Collect and learn, as `Training.round`."""
        self.stats = vmap_seeds(len(self.trainings), self._round) or self.stats

    def _round(self) -> dict[str, Tensor]:
        self.module.show()
        started = time.perf_counter()
        data, fragments = self.collect(steps_each(self.plan, self.recipe.envs))
        collected = time.perf_counter()
        for t, fragment in zip(self.trainings, fragments, strict=True):
            t.counters.add([fragment], 1)
        steps = self.trainings[0].counters.steps
        self.learner.world.progress = min(1.0, steps / self.recipe.steps)
        with self.learner.arithmetic():
            stats = self.learner.learn_from(data, fragments[:1], steps)
        for t, fragment in zip(self.trainings, fragments, strict=True):
            t.times.add_collection([fragment], collected - started, together=False)
            t.times.update += time.perf_counter() - collected
        return {k: unwrap(x.detach()).expand(len(self.trainings)) for k, x in stats.items()}

    @torch.no_grad()
    def act(self, obs: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Each seed's exploring actions [S, B, *A] for obs [S, B, *O], and extras [S, B, ...]."""
        actor, x = self.learner.actor, wrap(torch.from_numpy(obs).float())
        out = self.algorithm.act(actor.agent, actor.norm(x) if actor.norm else x, explore=True, rng=self.rngs)
        return unwrap(out.action).numpy(), {k: unwrap(x).numpy() for k, x in out.extras.items()}

    def collect(self, horizon: int) -> tuple[Steps, list[Fragment]]:
        """What each seed sees of `horizon` steps of its environments, and for each seed what is counted."""
        rows, extras, acting, start = [], [], 0.0, time.perf_counter()
        done: list[tuple[list[float], list[int]]] = [([], []) for _ in self.runners]
        first = self.runners[0]
        obs = np.stack([r.obs for r in self.runners])
        with first.env.within(first.spec.step_limit):
            for _ in range(horizon):
                before = time.perf_counter()
                action, extra = self.act(obs)
                acting += time.perf_counter() - before
                moved = [r.advance(a, d) for r, a, d in zip(self.runners, action, done, strict=True)]
                reward, terminated, truncated, after = (
                    np.stack(x)
                    for x in zip(*((m.reward, m.terminated, m.truncated, m.obs) for m in moved), strict=True)
                )
                rows.append((obs, action, reward, terminated, truncated, after))
                extras.append(extra)
                obs = np.stack([r.obs for r in self.runners])
        seen, action, reward, terminated, truncated, after = (np.stack(x, 1) for x in zip(*rows, strict=True))
        seen = np.concatenate([seen, obs[:, None]], 1)
        self.check(seen, reward)
        columns = (seen, action, reward.astype(np.float32), terminated, truncated, padded(after, truncated))
        beside = {k: np.stack([e[k] for e in extras], 1) for k in extras[0]}
        stepping = time.perf_counter() - start - acting
        fragments = [
            Fragment(tuple(x[s] for x in columns), {}, self.learner.version, 0, *done[s], acting, stepping)
            for s in range(len(self.runners))
        ]
        return seen_by_each(Steps(*columns, beside), as_floats), fragments

    def trial(self) -> None:
        """Act and learn from made-up steps, for what an algorithm cannot do for several seeds raises; the seeds are spoilt by it."""
        vmap_seeds(len(self.trainings), self._trial)

    def _trial(self) -> None:
        self.module.show()
        obs = np.stack([r.obs for r in self.runners])
        action, extras = self.act(obs)
        for _ in range(2):
            self.learner.update(self.learner.normalised(made_up(self.plan, obs, action, extras)))

    def check(self, obs: np.ndarray, reward: np.ndarray) -> None:
        """As each runner's own, at one look where all is well."""
        if not (np.isfinite(obs).all() and np.isfinite(reward).all()):
            for runner, o, r in zip(self.runners, obs, reward, strict=True):
                runner.check(o, r)

    # ---- the loop

    def go(self, done: Done, failed: Failed, should_stop: Callable[[], bool]) -> bool:
        """Train all seeds to their ends, and report each end at once. Whether they were stopped before."""
        start, before = time.monotonic(), self.trainings[0].counters.seconds
        self.leave(self.log_and_checkpoint([t for t in self.trainings if t.over()], done, failed, False))
        while self.trainings:
            self.round()
            stopped = should_stop()
            for t in self.trainings:
                t.counters.seconds = before + time.monotonic() - start
                if self.recipe.stop_return is not None:
                    t.should_stop()
            over = [t for t in self.trainings if t.over()]
            if stopped or over or self.due():
                self.leave(self.log_and_checkpoint(over, done, failed, stopped))
            if stopped:
                break
        return bool(self.trainings) or self.unmeasured

    def due(self) -> bool:
        """Whether it is time to log or to save."""
        t = self.trainings[0]
        step = t.counters.steps
        return step - t.logged >= self.recipe.log_every or step - t.saved >= self.recipe.save_every

    def log_and_checkpoint(self, over: Sequence[Training], done: Done, failed: Failed, stopped: bool) -> list[Training]:
        """Let every seed log and save what is due; those that ended, well or not."""
        self.write_back()
        ended = list(over)
        for t in self.trainings:
            try:
                t.log_and_checkpoint(last=stopped or t in over)
                if t in over:
                    measured = t.evaluate()
                    self.unmeasured = self.unmeasured or not measured
                    if measured:
                        done(t, t.summary() | measured)
            except (FloatingPointError, OSError) as error:
                failed(t, error)
                ended += [] if t in over else [t]
        return ended

    def leave(self, ended: Sequence[Training]) -> None:
        """Continue without these."""
        if not ended:
            return
        kept = [i for i, t in enumerate(self.trainings) if t not in ended]
        for t in ended:
            t.pool.close()
        self.stats = {k: x[kept] for k, x in self.stats.items()}
        rest = [self.trainings[i] for i in kept]
        if rest:
            self.stack(rest)
        else:
            self.trainings = []


def made_up(plan: Experience, obs: np.ndarray, action: np.ndarray, extras: Mapping[str, np.ndarray]) -> Any:
    """As much as an update sees, of steps that lead back to where they began: obs [S, B, *O] and what was done there, [S, B, ...]."""
    if isinstance(plan, Replay):
        rows = np.arange(plan.batch) % obs.shape[1]
        flat = np.zeros((len(obs), plan.batch), np.float32)
        x = obs[:, rows]
        found: tuple[np.ndarray, ...] = (x, action[:, rows], flat, x, flat + 0.9, flat + 1)
        return seen_by_each(Transitions(*found, {k: e[:, rows] for k, e in extras.items()}), as_floats)
    t = steps_each(plan, obs.shape[1])
    flat = np.zeros((len(obs), t, obs.shape[1]), np.float32)
    cut = flat > 0
    cut[:, -1, 0] = True
    long = {k: np.repeat(e[:, None], t, 1) for k, e in extras.items()}
    found = (np.repeat(obs[:, None], t + 1, 1), np.repeat(action[:, None], t, 1), flat, flat > 0, cut, obs[:, :1])
    return seen_by_each(Steps(*found, long), as_floats)


def padded(after: np.ndarray, truncated: np.ndarray) -> np.ndarray:
    """[S, K, *O]: of each seed the true next observations, of `after` [S, T, B, *O], where it was cut, [S, T, B]; then zeros."""
    most = int(truncated.sum((1, 2)).max())
    out = np.zeros((len(after), most, *after.shape[3:]), after.dtype)
    for s in range(len(after)) if most else ():
        cut = after[s][truncated[s]]
        out[s, : len(cut)] = cut
    return out


def as_floats(x: np.ndarray) -> Tensor:
    """Observations of integers as floats; what else there is has the type it needs."""
    found = torch.from_numpy(x)
    return found.float() if found.dtype in (torch.float64, torch.int8, torch.int16, torch.int32) else found
