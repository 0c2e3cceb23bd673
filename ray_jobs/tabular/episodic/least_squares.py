"""LSTD(lambda): the values at which the mean TD(lambda) update of all steps so far is 0, by a linear solve; many runs at once.

System: LSTD
Source: Bradtke & Barto 1996, doi:10.1007/BF00114723 (LSTD); Boyan 2002, doi:10.1023/A:1017936530646 (with traces); Sutton & Barto 2018,
section 9.8.
Differs: tables only, that is, one feature for each state. A state that has not been visited has its initial value, in place of a
regularised matrix.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ray_jobs.recipe.process import Crew, State, generator
from ray_jobs.recipe.ranges import Count, Finite, Share
from ray_jobs.tabular.draws import Simulator, outcomes_of
from ray_jobs.tabular.episodic.episodes import Step, ending, play_policy
from ray_jobs.tabular.mdp import MDP, Array, occupancy, state_transitions, state_values
from ray_jobs.tabular.problems import problem

SHARD = 250
"""Runs that are computed together."""
PARTS = ("matrix", "vector", "visits")
"""The arrays of a state that are shared out over shards."""


@dataclass(frozen=True)
class LSTD:
    """Least-squares TD for the values of a policy, an episode of all runs at a time."""

    env: str = "ray_jobs.tabular.walks:random_walk"
    """Gymnasium's id of an environment with a table, a file of arrays (.npz), or 'package.module:function' that returns an MDP."""
    env_options: Mapping[str, Any] | None = None
    """Keyword arguments of the environment, such as {"states": 19, "left": -1}."""
    policy: str = "uniform"
    """The policy that plays: uniform, best, or 'package.module:function' that takes the MDP and returns [S, A]."""
    gamma: Share = 1.0
    """Discount per step."""
    lam: Share = 0.0
    """The lambda of the traces; 0 solves for the values of the estimated process, 1 averages the returns of every visit."""
    initial: Finite = 0.5
    """Value of states that have not been visited."""
    runs: Count = 1_000
    """Runs at once."""

    unit = "episode"

    def begin(self, seed: int) -> State:
        """No steps yet.

        Raises:
            ValueError: the environment or the policy cannot be, or some episodes never end.
        """
        mdp = mdp_of(self, seed)
        policy, states = ending(mdp, self.policy, self.env), len(mdp.start)
        sums = {
            "matrix": np.zeros((self.runs, states, states)),
            "vector": np.zeros((self.runs, states)),
            "visits": np.zeros((self.runs, states), np.int64),
        }
        return {"seed": seed, "policy": policy, "exact": state_values(mdp, policy), "errors": np.zeros(0)} | sums

    def advance(self, state: State, step: int, seed: int, crew: Crew) -> dict[str, float]:
        """One episode of every run, and the values after it."""
        work = functools.partial(episodes, self, seed, step, state["policy"])
        parts = [(k, tuple(state[name][k : k + SHARD] for name in PARTS)) for k in range(0, self.runs, SHARD)]
        answers = crew.map(work, parts)
        for k, name in enumerate(PARTS):
            state[name] = np.concatenate([answer[k] for answer in answers])
        squares = np.concatenate([answer[-1] for answer in answers])
        state["errors"] = np.append(state["errors"], error := float(squares.mean() ** 0.5))
        return {"rms_error": error}

    def result(self, state: State, seed: int, crew: Crew) -> dict[str, float]:
        """rms_error: of the values, over runs and states.

        With lambda 0 also limit_error, the same in the limit of many episodes: see `limit_error`.
        """
        values = solved(state["matrix"], state["vector"], state["visits"], self.initial)
        found = {"rms_error": float(np.square(values - state["exact"]).mean() ** 0.5)}
        if self.lam:
            return found
        return found | {"limit_error": limit_error(mdp_of(self, seed), state["policy"], len(state["errors"]))}

    def pictures(self, state: State, folder: Path) -> None:
        """error.png."""
        from ray_jobs.tabular import pictures

        mdp, times = mdp_of(self, state["seed"]), 1 + np.arange(len(state["errors"]))
        limit = None if self.lam else limit_error(mdp, state["policy"], 1) / np.sqrt(times)
        title = f"LSTD({self.lam:g})" + ("" if self.lam else "; dashed: in the limit of many episodes")
        pictures.error(state["errors"], limit, self.unit, title, folder / "error.png", first=1)


def mdp_of(of: LSTD, seed: int) -> MDP:
    """The process that is learned from; each worker builds it once and keeps it."""
    return problem(of.env, of.gamma, of.env_options, seed).mdp


def episodes(
    of: LSTD, seed: int, step: int, policy: Array, part: tuple[int, tuple[Array, ...]]
) -> tuple[Array, Array, Array, Array]:
    """The arrays of a shard's runs after one more episode each, and the mean squared errors of the runs [R].

    Args:
        part: number of the shard's first run, and its arrays in the order of `PARTS`.
    """
    first, (matrix, vector, visits) = part[0], (x.copy() for x in part[1])
    mdp, rng = mdp_of(of, seed), generator(seed, step, first)
    learn(of, matrix, vector, visits, play_policy(Simulator.of(mdp), policy, len(vector), rng))
    found = solved(matrix, vector, visits, of.initial)
    return matrix, vector, visits, np.square(found - state_values(mdp, policy)).mean(1)


def learn(of: LSTD, matrix: Array, vector: Array, visits: Array, steps: list[Step]) -> None:
    """Add the steps of one episode of each run; in place.

    Args:
        matrix: the sum of z (x - gamma x')' [R, S, S], with x and x' the states of a step and z the trace.
        vector: the sum of z times the reward [R, S].
        visits: of each state [R, S].
    """
    states, z = vector.shape[1], np.zeros_like(vector)
    for x in steps:
        z[x.rows] *= of.gamma * of.lam
        z[x.rows, x.s] += 1
        visits[x.rows, x.s] += 1
        vector[x.rows] += x.reward[:, None] * z[x.rows]
        matrix[x.rows, :, x.s] += z[x.rows]
        on = x.after < states
        matrix[x.rows[on], :, x.after[on]] -= of.gamma * z[x.rows[on]]


def limit_error(mdp: MDP, policy: Array, episodes: int) -> float:
    """The root of the mean squared error over runs and states of LSTD(0) after n episodes, as n grows.

    V is a smooth function of the estimated process, so its covariance tends to B D B' / n, with B = (I - gamma T_pi)^-1 and D the diagonal
    matrix of the variance of reward + gamma V(next state) over the mean visits in an episode. The next term is smaller by a factor of n.
    """
    probability, after, reward = outcomes_of(mdp)
    values = state_values(mdp, policy)
    ahead = reward + mdp.gamma * np.append(values, 0.0)[after]
    spread = (policy * (probability * np.square(ahead - values[:, None, None])).sum(-1)).sum(-1)
    visits = occupancy(replace(mdp, gamma=1.0), policy)
    inverse = np.linalg.inv(np.eye(len(values)) - mdp.gamma * state_transitions(mdp, policy))
    return float((np.square(inverse) @ (spread / visits)).mean() ** 0.5 / episodes**0.5)


def solved(matrix: Array, vector: Array, visits: Array, initial: float) -> Array:
    """The values [R, S]: the solution of matrix V = vector; V = initial in states without a visit."""
    unseen = visits == 0
    whole = matrix + unseen[..., None] * np.eye(matrix.shape[1])
    return np.linalg.solve(whole, np.where(unseen, initial, vector)[..., None])[..., 0]
