"""Dynamic programming as processes of a study: one sweep or improvement at a time, over shards of the states.

Source: Sutton & Barto 2018, sections 4.1 (policy evaluation), 4.3 (policy iteration) and 4.4 (value iteration); Puterman 1994, theorem
6.3.1 (when to stop) and section 6.5 (modified policy iteration).
Differs: the book's theta bounds the change of a sweep; `error` bounds the distance to the optimal values.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ray_jobs.recipe.process import Crew, State
from ray_jobs.recipe.ranges import Count
from ray_jobs.tabular.dynamic_programming import (
    evaluation_sweep,
    greedy,
    improve,
    policy_iteration,
    policy_values,
    settled,
    sweep,
)
from ray_jobs.tabular.mdp import MDP, Array, backup, uniform_policy
from ray_jobs.tabular.problems import Problem, best_limited_return, limited_return, policy_of, problem


@dataclass(frozen=True)
class Planned:
    """What all processes have."""

    env: str = "FrozenLake8x8-v1"
    """Gymnasium's id of an environment with a table, a file of arrays (.npz), or 'package.module:function' that returns an MDP."""
    env_options: Mapping[str, Any] | None = None
    """Keyword arguments of the environment, such as {"is_slippery": false}."""
    gamma: float = 0.99
    """Discount per step; 1 is allowed where the uniform policy ends every episode, and for evaluation where the policy does."""
    shards: int = 4
    """Blocks of states that are computed apart, by as many workers or fewer."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Swept(Planned):
    """What processes have that sweep values from 0 until they settle."""

    error: float = 1e-12
    """Largest distance to the exact values at which the sweeps end; at gamma 1 only the largest change of the last one."""

    unit: ClassVar[str]

    def done(self, state: State) -> bool:
        """Whether the last sweep changed so little that the values are within `error`."""
        return state["settled"]


@dataclass(frozen=True)
class Optimal(Swept):
    """What processes have that sweep towards the optimal values, for which their policy is greedy."""

    def begin(self, seed: int) -> State:
        """V = 0, the optimal values, and the largest error so far of each unit.

        Raises:
            ValueError: the environment cannot be solved.
        """
        return unsettled(seed, policy_iteration(problem_of(self, seed).mdp).values)

    def result(self, state: State, seed: int, crew: Crew) -> dict[str, float]:
        """See `measured`; the policy is greedy for the values."""
        found = problem_of(self, seed)
        policy = greedy(found.mdp, state["values"])
        return measured(found, state["values"], policy) | {f"{self.unit}s": len(state["errors"]) - 1.0}

    def pictures(self, state: State, folder: Path) -> None:
        """value.png and convergence.png."""
        policy = greedy(problem_of(self, state["seed"]).mdp, state["values"])
        draw(self, state, policy, self.unit, folder)


@dataclass(frozen=True)
class ValueIteration(Optimal):
    """Sweeps V <- max_a R + gamma T V from 0, until V is within `error` of the optimal values."""

    unit = "sweep"

    def advance(self, state: State, step: int, seed: int, crew: Crew) -> dict[str, float]:
        """One sweep, block by block."""
        work = functools.partial(swept, self, seed, state["values"])
        return note_sweep(self, state, np.concatenate(crew.map(work, range(self.shards))))


@dataclass(frozen=True)
class PolicyIteration(Planned):
    """Improvements of a policy by its exact values, from the uniform policy, until it stays as it is."""

    unit = "improvement"

    def begin(self, seed: int) -> State:
        """The uniform policy and its values, the optimal values, and the largest error so far of each policy.

        Raises:
            ValueError: the environment cannot be solved.
        """
        mdp = problem_of(self, seed).mdp
        policy, exact = uniform_policy(mdp), policy_iteration(mdp).values
        values = policy_values(mdp, policy)
        state: State = {"seed": seed, "policy": policy, "values": values, "exact": exact, "stable": False}
        return state | {"errors": np.abs(values - exact).max(keepdims=True)}

    def advance(self, state: State, step: int, seed: int, crew: Crew) -> dict[str, float]:
        """One improvement, block by block, and the exact values of the new policy."""
        before, mdp = state["policy"], problem_of(self, seed).mdp
        work = functools.partial(improved, self, seed, state["values"], before)
        after = np.concatenate(crew.map(work, range(self.shards)))
        values = policy_values(mdp, after)
        state["policy"], state["values"] = after, values
        changed = int((after != before).any(-1).sum())
        state["stable"] = changed == 0
        return {"value_error": noted_error(state, values), "changed_states": float(changed)}

    def done(self, state: State) -> bool:
        """Whether the last improvement changed nothing."""
        return state["stable"]

    def result(self, state: State, seed: int, crew: Crew) -> dict[str, float]:
        """See `measured`."""
        found = measured(problem_of(self, seed), state["values"], state["policy"])
        return found | {"improvements": len(state["errors"]) - 1.0}

    def pictures(self, state: State, folder: Path) -> None:
        """value.png and convergence.png."""
        draw(self, state, state["policy"], self.unit, folder)


@dataclass(frozen=True)
class PolicyEvaluation(Swept):
    """Sweeps V <- r_pi + gamma T_pi V from 0, until V is within `error` of the values of the policy."""

    policy: str = "uniform"
    """The policy: uniform, best, or 'package.module:function' that takes the MDP and returns the probabilities [S, A]."""

    unit = "sweep"

    def begin(self, seed: int) -> State:
        """V = 0, the exact values by a linear solve, and the largest error so far of each sweep.

        Raises:
            ValueError: the environment or the policy cannot be, or gamma is 1 and the policy does not end every episode.
        """
        mdp = problem_of(self, seed).mdp
        policy = policy_of(self.policy, mdp)
        return unsettled(seed, policy_values(mdp, policy)) | {"policy": policy}

    def advance(self, state: State, step: int, seed: int, crew: Crew) -> dict[str, float]:
        """One sweep, block by block."""
        work = functools.partial(evaluated, self, seed, state["policy"], state["values"])
        return note_sweep(self, state, np.concatenate(crew.map(work, range(self.shards))))

    def result(self, state: State, seed: int, crew: Crew) -> dict[str, float]:
        """value_error: largest distance to the linear solve; start_value, exact_start_value; sweeps."""
        mdp = problem_of(self, seed).mdp
        return {
            "value_error": float(np.abs(state["values"] - state["exact"]).max()),
            "start_value": float(mdp.start @ state["values"]),
            "exact_start_value": float(mdp.start @ state["exact"]),
            "sweeps": len(state["errors"]) - 1.0,
        }

    def pictures(self, state: State, folder: Path) -> None:
        """value.png and convergence.png."""
        draw(self, state, state["policy"], self.unit, folder)


@dataclass(frozen=True)
class ModifiedPolicyIteration(Optimal):
    """Policy iteration whose evaluation is a few sweeps: 1 is value iteration, many are policy iteration."""

    sweeps: Count = 10
    """Sweeps of each evaluation; the first of them is that of value iteration, which chooses the policy."""

    unit = "improvement"

    def advance(self, state: State, step: int, seed: int, crew: Crew) -> dict[str, float]:
        """A sweep of value iteration and, where it has not settled, the other sweeps with the policy that it chose."""
        before, mdp = state["values"], problem_of(self, seed).mdp
        first = functools.partial(chosen, self, seed, before)
        values, policies = zip(*crew.map(first, range(self.shards)), strict=True)
        after, policy = np.concatenate(values), np.concatenate(policies)
        change, over = float(np.abs(after - before).max()), settled(mdp, before, after, self.error)
        for _ in range(0 if over else self.sweeps - 1):
            after = np.concatenate(
                crew.map(functools.partial(evaluated, self, seed, policy, after), range(self.shards))
            )
        state["values"], state["settled"] = after, over
        return {"value_error": noted_error(state, after), "change": change}


def check(of: Planned) -> None:
    """Refuse a discount or a number of shards that cannot be.

    Raises:
        ValueError: one sentence says what is allowed.
    """
    if not 0 <= of.gamma <= 1:
        raise ValueError(f"--gamma must be at least 0 and at most 1, not {of.gamma:g}.")
    if of.shards < 1:
        raise ValueError(f"--shards must be at least 1, not {of.shards}.")


def problem_of(of: Planned, seed: int) -> Problem:
    """The problem that a process solves; each worker builds it once and keeps it."""
    return problem(of.env, of.gamma, of.env_options, seed)


def block(of: Planned, seed: int, shard: int) -> tuple[MDP, slice]:
    """The MDP with the rows of one block of states, and which states these are."""
    mdp = problem_of(of, seed).mdp
    ends = np.linspace(0, len(mdp.start), of.shards + 1).round().astype(int)
    rows = slice(ends[shard], ends[shard + 1])
    return replace(mdp, transition=mdp.transition[rows], reward=mdp.reward[rows]), rows


def swept(of: ValueIteration, seed: int, v: Array, shard: int) -> Array:
    """The sweep of a block of states, from the values v [S] of all."""
    return sweep(block(of, seed, shard)[0], v)


def evaluated(of: Planned, seed: int, policy: Array, v: Array, shard: int) -> Array:
    """The sweep of a block of states under a policy [S, A], from the values v [S] of all."""
    mdp, rows = block(of, seed, shard)
    return evaluation_sweep(mdp, policy[rows], v)


def chosen(of: Planned, seed: int, v: Array, shard: int) -> tuple[Array, Array]:
    """The sweep of value iteration of a block of states, from the values v [S] of all, and the greedy policy that it takes."""
    mdp, _ = block(of, seed, shard)
    return sweep(mdp, v), greedy(mdp, v)


def improved(of: PolicyIteration, seed: int, v: Array, policy: Array, shard: int) -> Array:
    """The improved policy of a block of states, from the values v [S] and policy [S, A] of all."""
    mdp, rows = block(of, seed, shard)
    return improve(backup(mdp, v), policy[rows], v[rows])


def unsettled(seed: int, exact: Array) -> State:
    """The state before the first sweep: V = 0, the exact values [S], and the largest error."""
    values, errors = np.zeros(len(exact)), np.abs(exact).max(keepdims=True)
    return {"seed": seed, "values": values, "exact": exact, "settled": False, "errors": errors}


def note_sweep(of: Swept, state: State, after: Array) -> dict[str, float]:
    """Take over the values [S] after a sweep, and whether they have settled; the metrics to log."""
    before = state["values"]
    state["values"], state["settled"] = after, settled(problem_of(of, state["seed"]).mdp, before, after, of.error)
    return {"value_error": noted_error(state, after), "change": float(np.abs(after - before).max())}


def noted_error(state: State, values: Array) -> float:
    """The largest error of the values [S], which is also appended to the state's errors."""
    error = np.abs(values - state["exact"]).max()
    state["errors"] = np.append(state["errors"], error)
    return float(error)


def measured(of: Problem, values: Array, policy: Array) -> dict[str, float]:
    """The metrics of values [S] and of a policy [S, A], each with the exact optimum beside it.

    value_error is the largest distance to the optimal policy's values, by a linear solve; residual that of V to its own sweep, which
    needs no optimal policy. Where the environment has a time limit, episode_return is the policy's expected return, undiscounted, within it
    (on FrozenLake the chance of success), and best_episode_return that of the best policy that knows how many steps are left.
    """
    mdp = of.mdp
    exact = policy_iteration(mdp).values
    found = {
        "value_error": float(np.abs(values - exact).max()),
        "residual": float(np.abs(sweep(mdp, values) - values).max()),
        "start_value": float(mdp.start @ values),
        "best_start_value": float(mdp.start @ exact),
    }
    if of.limit is None:
        return found
    reached = {"episode_return": limited_return(mdp, policy, of.limit)}
    return found | reached | {"best_episode_return": best_limited_return(mdp, of.limit)}


def draw(of: Planned, state: State, policy: Array, unit: str, folder: Path) -> None:
    """value.png and convergence.png of a process in the folder; the policy is [S, A]."""
    from ray_jobs.tabular import pictures

    title = f"{of.env}, gamma {of.gamma:g}"
    found = problem_of(of, state["seed"])
    pictures.value(found, state["values"], state["exact"], policy, title, folder / "value.png")
    pictures.convergence(state["errors"], of.gamma, unit, title, folder / "convergence.png")
