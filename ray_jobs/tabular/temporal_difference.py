"""TD(lambda): the values of a policy, learned from each step by the difference of two predictions; thousands of runs at once.

System: TD(lambda)
Source: Sutton & Barto 2018, section 6.1 (TD(0)), 12.2 (accumulating traces), 12.5 (true online TD(lambda), dutch traces) and 12.10
(replacing traces); van Seijen et al. 2016, arXiv:1512.04087, algorithm 1.
Differs: tables only.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ray_jobs.recipe.process import Crew, State, generator
from ray_jobs.recipe.ranges import Count, Finite, Part, Share
from ray_jobs.tabular.draws import Simulator
from ray_jobs.tabular.learning_curve import exact_errors
from ray_jobs.tabular.mdp import MDP, Array, ends_for_sure, state_values, uniform_policy
from ray_jobs.tabular.problems import problem

SHARD = 1_000
"""Runs that are computed together."""
LONGEST = 100_000
"""Steps of an episode."""
FEW = 9
"""States up to which the exact learning curve is computed: it solves S (S + 1)^2 linear equations."""


@dataclass(frozen=True)
class TemporalDifference:
    """TD(lambda) for the values of the policy that takes every action alike, an episode of all runs at a time."""

    env: str = "ray_jobs.tabular.walks:random_walk"
    """Gymnasium's id of an environment with a table, a file of arrays (.npz), or 'package.module:function' that returns an MDP."""
    env_options: Mapping[str, Any] | None = None
    """Keyword arguments of the environment, such as {"states": 19, "left": -1}."""
    gamma: Share = 1.0
    """Discount per step."""
    alpha: Part = 0.1
    """Step size."""
    lam: Share = 0.0
    """The lambda of the traces; 0 is TD(0)."""
    traces: Literal["accumulating", "replacing", "dutch"] = "accumulating"
    """How a visit adds to the trace of its state; dutch traces are those of true online TD(lambda)."""
    initial: Finite = 0.5
    """Value of every state before the first episode."""
    runs: Count = 2_000
    """Runs at once."""

    unit = "episode"

    def begin(self, seed: int) -> State:
        """The initial values of all runs, and the error of each episode so far.

        Raises:
            ValueError: the environment has no table, or some of its episodes never end.
        """
        mdp = mdp_of(self, seed)
        if not ends_for_sure(mdp, uniform_policy(mdp)):
            raise ValueError(
                f"Episodes of {self.env} need not end under the uniform policy: TD learns from whole episodes."
            )
        exact = state_values(mdp, uniform_policy(mdp))
        values = np.full((self.runs, len(exact)), self.initial)
        return {
            "seed": seed,
            "values": values,
            "exact": exact,
            "errors": np.array([np.square(values - exact).mean() ** 0.5]),
        }

    def advance(self, state: State, step: int, seed: int, crew: Crew) -> dict[str, float]:
        """One episode of every run."""
        work = functools.partial(episodes, self, seed, step)
        parts = [(k, state["values"][k : k + SHARD]) for k in range(0, self.runs, SHARD)]
        state["values"] = np.concatenate(crew.map(work, parts))
        error = float(np.square(state["values"] - state["exact"]).mean() ** 0.5)
        state["errors"] = np.append(state["errors"], error)
        return {"rms_error": error}

    def result(self, state: State, seed: int, crew: Crew) -> dict[str, float]:
        """rms_error: of the values, over runs and states. Of TD(0) on few states also exact_error, and z: errors between the two."""
        each = np.square(state["values"] - state["exact"]).mean(1)
        found = {"rms_error": float(each.mean() ** 0.5)}
        if self.lam or len(state["exact"]) > FEW or self.runs < 2:
            return found
        exact = exact_curve(self, seed, len(state["errors"]) - 1)[-1]
        spread = each.std(ddof=1) / len(each) ** 0.5
        return found | {"exact_error": float(exact), "z": float(abs(each.mean() - exact**2) / spread)}

    def pictures(self, state: State, folder: Path) -> None:
        """error.png."""
        from ray_jobs.tabular import pictures

        few = not self.lam and len(state["exact"]) <= FEW
        exact = exact_curve(self, state["seed"], len(state["errors"]) - 1) if few else None
        title = f"TD({self.lam:g}), step size {self.alpha:g}"
        pictures.error(state["errors"], exact, self.unit, title, folder / "error.png")


def mdp_of(of: TemporalDifference, seed: int) -> MDP:
    """The process that is learned from; each worker builds it once and keeps it."""
    return problem(of.env, of.gamma, of.env_options, seed).mdp


def exact_curve(of: TemporalDifference, seed: int, count: int) -> Array:
    """The exact error of TD(0) after 0, 1, ... `count` episodes: the root of the mean square over runs and states."""
    mdp = mdp_of(of, seed)
    return exact_errors(mdp, uniform_policy(mdp), of.alpha, of.initial, count)


def episodes(of: TemporalDifference, seed: int, step: int, part: tuple[int, Array]) -> Array:
    """The values [R, S] of a shard's runs after one more episode each, all of them step by step at the same time.

    Args:
        part: number of the shard's first run, and the values of its runs.
    """
    (first, values), mdp = part, mdp_of(of, seed)
    rng = generator(seed, step, first)
    simulator, (states, actions) = Simulator.of(mdp), mdp.reward.shape
    v, z, old, runs = values.copy(), np.zeros_like(values), np.zeros(len(values)), np.arange(len(values))
    s = simulator.begin(rng, len(runs))
    for _ in range(LONGEST):
        a = rng.integers(actions, size=len(runs))
        after, reward = simulator.step(s, a, rng)
        ahead = np.where(after < states, v[runs, np.minimum(after, states - 1)], 0.0)
        learn(of, v, z, old, runs, s, reward, ahead)
        runs, s = runs[after < states], after[after < states]
        if not len(runs):
            return v
    raise ValueError(f"An episode of {of.env} has not ended after {LONGEST:,} steps.")


def learn(
    of: TemporalDifference,
    v: Array,
    z: Array,
    old: Array,
    runs: NDArray[np.int64],
    s: NDArray[np.int64],
    reward: Array,
    ahead: Array,
) -> None:
    """One step of TD(lambda) in the rows `runs` of values v [R, S], traces z [R, S] and, for dutch traces, V_old [R]; in place.

    Args:
        s, reward, ahead: of each of these runs: its state, the reward, and the value of the next state, 0 at an end.
    """
    now = v[runs, s]
    error = reward + of.gamma * ahead - now
    z[runs] *= of.gamma * of.lam
    if of.traces == "accumulating":
        z[runs, s] += 1
    elif of.traces == "replacing":
        z[runs, s] = 1
    else:
        z[runs, s] += 1 - of.alpha * z[runs, s]
        v[runs] += of.alpha * (now - old[runs])[:, None] * z[runs]
        v[runs, s] -= of.alpha * (now - old[runs])
        old[runs] = ahead
    v[runs] += of.alpha * error[:, None] * z[runs]
