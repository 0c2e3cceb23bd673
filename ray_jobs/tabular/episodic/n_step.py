"""n-step TD: a state is updated n steps later, by the rewards since and the value of the state then; thousands of runs at once.

System: n-step TD
Source: Sutton & Barto 2018, section 7.1: the update of V(S_t) at time t + n by the return of eq. 7.1.
Differs: tables only. The policy does not depend on the values, so whole episodes are played before the updates are made in their order.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ray_jobs.recipe.process import Crew, State, generator
from ray_jobs.recipe.ranges import Count, Finite, Part, Share
from ray_jobs.tabular.draws import Simulator
from ray_jobs.tabular.episodic.episodes import Ints, Step, ending, play_policy
from ray_jobs.tabular.learning_curve import exact_errors, windows
from ray_jobs.tabular.mdp import MDP, Array, state_values
from ray_jobs.tabular.problems import problem

SHARD = 1_000
"""Runs that are computed together."""
EQUATIONS = 1_500
"""Linear equations with which the exact learning curve is still computed."""


@dataclass(frozen=True)
class NStepTD:
    """n-step TD for the values of a policy, an episode of all runs at a time."""

    env: str = "ray_jobs.tabular.walks:random_walk"
    """Gymnasium's id of an environment with a table, a file of arrays (.npz), or 'package.module:function' that returns an MDP."""
    env_options: Mapping[str, Any] | None = None
    """Keyword arguments of the environment, such as {"states": 19, "left": -1}."""
    policy: str = "uniform"
    """The policy that plays: uniform, best, or 'package.module:function' that takes the MDP and returns [S, A]."""
    gamma: Share = 1.0
    """Discount per step."""
    n: Count = 2
    """Steps of the return; 1 is TD(0), and from an episode's length on it is Monte Carlo with a constant step size."""
    alpha: Part = 0.1
    """Step size."""
    initial: Finite = 0.5
    """Value of every state before the first episode."""
    runs: Count = 2_000
    """Runs at once."""

    unit = "episode"

    def begin(self, seed: int) -> State:
        """The initial values of all runs, and the error of each episode so far.

        Raises:
            ValueError: the environment or the policy cannot be, or some episodes never end.
        """
        mdp = mdp_of(self, seed)
        policy = ending(mdp, self.policy, self.env)
        exact = state_values(mdp, policy)
        values = np.full((self.runs, len(exact)), self.initial)
        first = np.array([np.square(values - exact).mean() ** 0.5])
        return {"seed": seed, "values": values, "policy": policy, "exact": exact, "errors": first, "roots": np.zeros(0)}

    def advance(self, state: State, step: int, seed: int, crew: Crew) -> dict[str, float]:
        """One episode of every run."""
        work = functools.partial(episodes, self, seed, step, state["policy"])
        parts = [(k, state["values"][k : k + SHARD]) for k in range(0, self.runs, SHARD)]
        state["values"] = np.concatenate(crew.map(work, parts))
        each = np.square(state["values"] - state["exact"]).mean(1)
        state["errors"] = np.append(state["errors"], error := float(each.mean() ** 0.5))
        state["roots"] = np.append(state["roots"], np.sqrt(each).mean())
        return {"rms_error": error}

    def result(self, state: State, seed: int, crew: Crew) -> dict[str, float]:
        """rms_error of the values, over runs and states; mean_rms_error: mean over episodes and runs of the root over states.

        The second is the measure of the book's figure 7.2. Of few states and steps also exact_error, and z: standard errors between the
        two mean squares.
        """
        each = np.square(state["values"] - state["exact"]).mean(1)
        found = {"rms_error": float(each.mean() ** 0.5), "mean_rms_error": float(state["roots"].mean())}
        exact = self.exact_curve(state)
        if exact is None or self.runs < 2:
            return found
        spread = max(each.std(ddof=1) / len(each) ** 0.5, 1e-300)
        return found | {"exact_error": float(exact[-1]), "z": float(abs(each.mean() - exact[-1] ** 2) / spread)}

    def pictures(self, state: State, folder: Path) -> None:
        """error.png."""
        from ray_jobs.tabular import pictures

        title = f"{self.n}-step TD, step size {self.alpha:g}"
        pictures.error(state["errors"], self.exact_curve(state), self.unit, title, folder / "error.png")

    def exact_curve(self, state: State) -> Array | None:
        """The exact error after 0, 1, ... episodes; None where it takes more than `EQUATIONS`."""
        mdp, policy = mdp_of(self, state["seed"]), state["policy"]
        most = EQUATIONS // (len(mdp.start) + 1) ** 2
        if not most or len(windows(mdp, policy, self.alpha, self.n, most)) > most:
            return None
        return exact_errors(mdp, policy, self.alpha, self.initial, len(state["errors"]) - 1, self.n)


def mdp_of(of: NStepTD, seed: int) -> MDP:
    """The process that is learned from; each worker builds it once and keeps it."""
    return problem(of.env, of.gamma, of.env_options, seed).mdp


def episodes(of: NStepTD, seed: int, step: int, policy: Array, part: tuple[int, Array]) -> Array:
    """The values [R, S] of a shard's runs after one more episode each.

    Args:
        part: number of the shard's first run, and the values of its runs.
    """
    first, values = part[0], part[1].copy()
    learn(of, values, play_policy(Simulator.of(mdp_of(of, seed)), policy, len(values), generator(seed, step, first)))
    return values


def learn(of: NStepTD, v: Array, steps: list[Step]) -> None:
    """The updates of one episode of each run, in the values v [R, S]; in place."""
    runs, states = v.shape
    s, rewards = np.zeros((of.n, runs), np.int64), np.zeros((of.n, runs))  # of the last n steps: step t has row t % n
    for t, x in enumerate(steps):
        s[t % of.n, x.rows], rewards[t % of.n, x.rows] = x.s, x.reward
        on, over = x.rows[x.after < states], x.rows[x.after == states]
        if t >= of.n - 1:
            update(of, v, s, rewards, on, range(t - of.n + 1, t + 1), v[on, x.after[x.after < states]])
        for tau in range(max(0, t - of.n + 1), t + 1) if len(over) else ():
            update(of, v, s, rewards, over, range(tau, t + 1), np.zeros(len(over)))


def update(of: NStepTD, v: Array, s: Ints, rewards: Array, rows: Ints, times: range, ahead: Array) -> None:
    """Move V of the state at the first of the times towards the rewards at these times and the value ahead [K], in the rows [K]."""
    g = of.gamma ** len(times) * ahead
    for k, time in enumerate(times):
        g += of.gamma**k * rewards[time % of.n, rows]
    here = s[times[0] % of.n, rows]
    v[rows, here] += of.alpha * (g - v[rows, here])
