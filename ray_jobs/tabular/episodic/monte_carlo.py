"""Monte Carlo prediction: the values of a policy as averages of returns, of its own episodes or of another policy's.

System: Monte Carlo prediction
Source: Sutton & Barto 2018, section 5.1 (first-visit and every-visit averages) and 5.5 (eq. 5.5, ordinary, and eq. 5.6, weighted importance
sampling).
Differs: sums of returns and of weights are kept, in place of the incremental rule of section 5.6, which computes the same averages.
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
from ray_jobs.recipe.ranges import Count, Share
from ray_jobs.tabular.draws import Simulator
from ray_jobs.tabular.episodic.episodes import ending, first_visits, play_policy, returns
from ray_jobs.tabular.episodic.visits import every_visit_bias
from ray_jobs.tabular.mdp import MDP, Array, state_transitions, state_values
from ray_jobs.tabular.problems import policy_of, problem

SHARD = 1_000
"""Runs that are computed together."""
FEW = 500
"""Largest product of states and first states with which the exact bias of every-visit averages is computed."""


@dataclass(frozen=True)
class MonteCarlo:
    """Averages of returns, an episode of all runs at a time."""

    env: str = "ray_jobs.tabular.examples.loops:loop"
    """Gymnasium's id of an environment with a table, a file of arrays (.npz), or 'package.module:function' that returns an MDP."""
    env_options: Mapping[str, Any] | None = None
    """Keyword arguments of the environment."""
    policy: str = "uniform"
    """The policy whose values are estimated: uniform, best, or 'package.module:function' that takes the MDP and returns [S, A]."""
    behaviour: str = ""
    """The policy that plays, named likewise; '' is the policy itself."""
    gamma: Share = 1.0
    """Discount per step."""
    visits: Literal["first", "every"] = "first"
    """Which visits of a state in an episode count."""
    weights: Literal["ordinary", "weighted"] = "ordinary"
    """How importance ratios are averaged, where another policy plays: over the visits, or over the sum of the ratios."""
    runs: Count = 2_000
    """Runs at once."""

    unit = "episode"

    def begin(self, seed: int) -> State:
        """No returns yet, both policies, and the exact values.

        Raises:
            ValueError: the environment or a policy cannot be, or some episodes never end.
        """
        mdp = mdp_of(self, seed)
        target, behaviour = policy_of(self.policy, mdp), ending(mdp, self.behaviour or self.policy, self.env)
        if ((target > 0) & (behaviour == 0)).any():
            raise ValueError(
                f"The policy {self.behaviour} never takes some actions of {self.policy}: it cannot be learned from."
            )
        table = np.zeros((self.runs, len(mdp.start)))
        curves = {"errors": np.zeros(0), "biases": np.zeros(0), "spreads": np.zeros(0)}
        known = {"target": target, "behaviour": behaviour, "exact": state_values(mdp, target)}
        return {"seed": seed, "sums": table, "weights": table.copy()} | known | curves

    def advance(self, state: State, step: int, seed: int, crew: Crew) -> dict[str, float]:
        """One episode of every run."""
        work = functools.partial(episodes, self, seed, step, state["target"], state["behaviour"])
        parts = [(k, *(state[x][k : k + SHARD] for x in ("sums", "weights"))) for k in range(0, self.runs, SHARD)]
        sums, weights = zip(*crew.map(work, parts), strict=True)
        state["sums"], state["weights"] = np.concatenate(sums), np.concatenate(weights)
        found = apart(state)
        state["errors"] = np.append(state["errors"], error := rms(found, state))
        each = found @ mdp_of(self, seed).start
        state["biases"] = np.append(state["biases"], each.mean())
        state["spreads"] = np.append(state["spreads"], each.std() / len(each) ** 0.5)
        return {"rms_error": error, "bias": float(each.mean())}

    def result(self, state: State, seed: int, crew: Crew) -> dict[str, float]:
        """rms_error: root of the mean squared error over runs and the states that they have visited; start_error: of the first state.

        start_value and exact_start_value: mean over runs, and exact. bias: mean error of the first state, where a run that has not visited
        it counts as 0. Where it is known exactly: exact_bias, and z, standard errors between the two. It is 0 for first visits with
        ordinary weights, and not known for weighted ones. Where the variance is infinite there is no z.
        """
        mdp, found = mdp_of(self, seed), apart(state)
        reached = (state["weights"] > 0) * mdp.start
        start = (reached * (found + state["exact"])).sum() / max(reached.sum(), 1e-300)
        metrics = {
            "rms_error": rms(found, state),
            "start_error": float((np.square(found) @ mdp.start).mean() ** 0.5),
            "bias": float((found @ mdp.start).mean()),
            "start_value": float(start),
            "exact_start_value": float(mdp.start @ state["exact"]),
        }
        exact = self.exact_biases(state, np.array([len(state["errors"])]))
        if exact is None or self.runs < 2:
            return metrics
        if radius(mdp, state["target"], state["behaviour"]) >= 1:
            return metrics | {"exact_bias": float(exact[0])}
        each = found @ mdp.start
        z = abs(each.mean() - exact[0]) / max(each.std(ddof=1) / len(each) ** 0.5, 1e-12)
        return metrics | {"exact_bias": float(exact[0]), "z": float(z)}

    def pictures(self, state: State, folder: Path) -> None:
        """error.png and bias.png."""
        from ray_jobs.tabular import pictures

        title = f"{self.visits}-visit Monte Carlo on {self.env.rpartition(':')[2]}"
        pictures.error(state["errors"], None, self.unit, title, folder / "error.png", first=1)
        times = np.unique(np.geomspace(1, len(state["errors"]), 30).round())
        exact = self.exact_biases(state, times)
        pictures.bias(state["biases"], state["spreads"], times, exact, title, folder / "bias.png")

    def exact_biases(self, state: State, times: Array) -> Array | None:
        """The exact bias of the first state after each number of episodes [K]; None where it is not known."""
        off = bool((state["target"] != state["behaviour"]).any())
        if off and self.weights == "weighted":
            return None
        if self.visits == "first":
            return np.zeros(len(times))
        mdp = mdp_of(self, state["seed"])
        if len(mdp.start) * np.count_nonzero(mdp.start) > FEW:
            return None
        return every_visit_bias(mdp, state["target"], state["behaviour"], times)


def mdp_of(of: MonteCarlo, seed: int) -> MDP:
    """The process that is learned from; each worker builds it once and keeps it."""
    return problem(of.env, of.gamma, of.env_options, seed).mdp


def radius(mdp: MDP, target: Array, behaviour: Array) -> float:
    """The spectral radius of the second moments of importance ratios times rewards; from 1 on ordinary estimates have infinite variance.

    The mean of a squared ratio after k steps is that of the k-th power of the matrix sum over a of pi(a | s)^2 / b(a | s) T(s, a, s'), on
    the states that episodes reach under pi. A reward after k steps has the factor gamma^(2 k).
    """
    squares = mdp.gamma**2 * np.square(target) / np.where(behaviour > 0, behaviour, 1.0)
    reached = occupied(mdp, target)
    growth = np.einsum("sa,sat->st", squares, mdp.transition)[np.ix_(reached, reached)]
    return float(np.abs(np.linalg.eigvals(growth)).max())


def occupied(mdp: MDP, policy: Array) -> NDArray[np.bool_]:
    """The states [S] that episodes can reach under a policy [S, A]."""
    found, step = mdp.start > 0, state_transitions(mdp, policy) > 0
    for _ in range(len(found)):
        found = found | step[found].any(0)
    return found


def apart(state: State) -> Array:
    """The estimates minus the exact values [R, S]; 0 where a run has not visited a state, or has no weight there."""
    seen = state["weights"] > 0
    return np.where(seen, state["sums"] / np.where(seen, state["weights"], 1.0) - state["exact"], 0.0)


def rms(found: Array, state: State) -> float:
    """The root of the mean squared error of `apart`, over the states that runs have visited."""
    return float((np.square(found).sum() / max((state["weights"] > 0).sum(), 1)) ** 0.5)


def episodes(
    of: MonteCarlo, seed: int, step: int, target: Array, behaviour: Array, part: tuple[int, Array, Array]
) -> tuple[Array, Array]:
    """The sums of returns and of weights [R, S] of a shard's runs after one more episode each.

    Args:
        part: number of the shard's first run, and both sums.
    """
    first, sums, weights = part[0], part[1].copy(), part[2].copy()
    mdp, rng = mdp_of(of, seed), generator(seed, step, first)
    steps = play_policy(Simulator.of(mdp), behaviour, len(sums), rng)
    counts = [np.ones(len(x.rows), bool) for x in steps]
    if of.visits == "first":
        counts = first_visits(((x.rows, x.s) for x in steps), *sums.shape)
    ratio, ratios = np.ones(len(sums)), target / np.where(behaviour > 0, behaviour, 1.0)
    for (x, g), counted in zip(returns(steps, of.gamma), reversed(counts), strict=True):
        ratio[x.rows] *= ratios[x.s, x.a]
        rows, state = x.rows[counted], x.s[counted]
        sums[rows, state] += ratio[rows] * g[counted]
        weights[rows, state] += ratio[rows] if of.weights == "weighted" else 1.0
    return sums, weights
