"""What methods of control by action values share: many runs act at once, each with tables of its own, and go on over their episodes.

The policy is epsilon-greedy for the mean of a run's tables, and ties are broken at random. Where an environment cuts an episode by its time
limit, the last step still takes the next state's value; where it terminates, it does not.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ray_jobs.recipe.process import Crew, State, generator
from ray_jobs.tabular.draws import Simulator, place
from ray_jobs.tabular.dynamic_programming import policy_iteration
from ray_jobs.tabular.mdp import MDP, Array
from ray_jobs.tabular.problems import LONG, Problem, limited_return, problem

SHARD = 1_000
"""Runs that are computed together; a quarter of it takes twice as long for each run."""
SHOWN = 10
"""Runs whose policies are measured for the log."""
PARTS = ("q", "visits", "s", "a", "t")
"""The arrays of a state that are shared out over shards."""


class Next(NamedTuple):
    """The next state of each of R runs, as a method sees it."""

    q: Array
    """Its values in each table [R, T, A]."""
    action: NDArray[np.int64]
    """The action that will be taken there [R]."""
    table: NDArray[np.int64]
    """The table that is updated [R]."""

    @property
    def every(self) -> NDArray[np.int64]:
        """0 to R - 1."""
        return np.arange(len(self.q))


class Controlled:
    """What makes a process of a method; the fields are those of the method's own dataclass."""

    env: str
    env_options: Mapping[str, Any] | None
    gamma: float
    epsilon: float
    alpha: float
    power: float
    initial: float
    runs: int
    block: int

    unit = "block"
    tables = 1
    """Tables of values in each run."""
    soft = False
    """Whether it learns the best policy that explores, not the best one."""

    def ahead(self, next_: Next) -> Array:
        """What the next state is worth [R]."""
        raise NotImplementedError

    def begin(self, seed: int) -> State:
        """All runs at their start, and the exact value of it.

        Raises:
            ValueError: the environment cannot be solved.
        """
        mdp = self.problem(seed).mdp
        states, actions = mdp.reward.shape
        exact = policy_iteration(softened(mdp, self.epsilon) if self.soft else mdp).values
        q = np.full((self.runs, self.tables, states, actions), self.initial)
        rng = generator(seed, 0, 0, 1)
        s = Simulator.of(mdp).begin(rng, self.runs)
        a = chosen(q[np.arange(self.runs), :, s], self.epsilon, rng)
        counts = {"visits": np.zeros(q.shape, np.int64), "t": np.zeros(self.runs, np.int64)}
        return {
            "seed": seed,
            "q": q,
            "s": s,
            "a": a,
            "exact": float(mdp.start @ exact),
            "returns": np.zeros(0),
        } | counts

    def advance(self, state: State, step: int, seed: int, crew: Crew) -> dict[str, float]:
        """The next `block` steps of every run."""
        answers = crew.map(functools.partial(played, self, seed, step), shards(state))
        for k, name in enumerate(PARTS):
            state[name] = np.concatenate([answer[k] for answer in answers])
        found = self.returns(state["q"][:SHOWN], seed).mean()
        state["returns"] = np.append(state["returns"], found)
        return {"episode_return": float(found), "start_value": self.start_value(state, seed)}

    def result(self, state: State, seed: int, crew: Crew) -> dict[str, float]:
        """episode_return: expected return of the greedy policies, undiscounted and within the time limit, and that of the best policy.

        start_value: mean over runs of the learned value of the start; best_start_value and value_error: the exact one, of the best policy
        or of the best one that explores, and the distance to it.
        """
        of, value = self.problem(seed), self.start_value(state, seed)
        best = policy_iteration(of.mdp).policy
        return {
            "episode_return": float(self.returns(state["q"], seed).mean()),
            "best_episode_return": limited_return(of.mdp, best, of.limit or LONG),
            "start_value": value,
            "best_start_value": state["exact"],
            "value_error": abs(value - state["exact"]),
        }

    def pictures(self, state: State, folder: Path) -> None:
        """value.png, with the greedy policy of the mean values of all runs, and returns.png."""
        from ray_jobs.tabular import pictures

        q, of = state["q"].mean((0, 1)), self.problem(state["seed"])
        exact = policy_iteration(softened(of.mdp, self.epsilon) if self.soft else of.mdp).values
        values = (soft(q, self.epsilon if self.soft else 0.0) * q).sum(-1)
        title = f"{type(self).__name__} on {self.env}"
        pictures.value(of, values, exact, soft(q, 0.0), title, folder / "value.png")
        best = limited_return(of.mdp, policy_iteration(of.mdp).policy, of.limit or LONG)
        pictures.returns(state["returns"], best, self.block, title, folder / "returns.png")

    def problem(self, seed: int) -> Problem:
        """What is learned; each worker builds it once and keeps it."""
        return problem(self.env, self.gamma, self.env_options, seed)

    def returns(self, q: Array, seed: int) -> Array:
        """The expected return [R] of the greedy policy of each run's tables q [R, T, S, A]."""
        of = self.problem(seed)
        return np.array([limited_return(of.mdp, soft(table, 0.0), of.limit or LONG) for table in q.mean(1)])

    def start_value(self, state: State, seed: int) -> float:
        """The learned value of the start, under the policy that is learned, as a mean over runs."""
        q = state["q"].mean(1)
        values = (soft(q, self.epsilon if self.soft else 0.0) * q).sum(-1)
        return float((values @ self.problem(seed).mdp.start).mean())


def soft(q: Array, epsilon: float) -> Array:
    """The epsilon-greedy policy [..., A] for values q [..., A]; actions that are best alike share."""
    best = (q == q.max(-1, keepdims=True)).astype(np.float64)
    return (1 - epsilon) * best / best.sum(-1, keepdims=True) + epsilon / q.shape[-1]


def softened(mdp: MDP, epsilon: float) -> MDP:
    """The process in which each action is replaced by a random one with probability epsilon: its best policy is the best one that explores.

    Source: Sutton & Barto 2018, section 5.4.
    """
    mixed = [(1 - epsilon) * x + epsilon * x.mean(1, keepdims=True) for x in (mdp.transition, mdp.reward)]
    return MDP(mixed[0], mixed[1], mdp.start, mdp.gamma)


def chosen(q: Array, epsilon: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """An action [R] of the epsilon-greedy policy for the mean of the tables q [R, T, A]."""
    return place(soft(q.mean(1), epsilon).cumsum(-1)[:, :-1], rng.random(len(q)))


def shards(state: State) -> Iterable[tuple[int, tuple[NDArray[Any], ...]]]:
    """The first run of each part of `SHARD` runs, and its arrays in the order of `PARTS`."""
    for first in range(0, len(state["s"]), SHARD):
        yield first, tuple(state[name][first : first + SHARD] for name in PARTS)


def played(
    of: Controlled, seed: int, step: int, shard: tuple[int, tuple[NDArray[Any], ...]]
) -> tuple[NDArray[Any], ...]:
    """The arrays of a shard's runs after the next block of steps."""
    first, given = shard
    q, visits, s, a, t = (x.copy() for x in given)
    rng, (mdp, limit, *_) = generator(seed, step, first, 0), of.problem(seed)
    simulator, states, every = Simulator.of(mdp), len(mdp.start), np.arange(len(s))
    for _ in range(of.block):
        after, reward = simulator.step(s, a, rng)
        ended, there = after == states, np.minimum(after, states - 1)
        then, table = chosen(q[every, :, there], of.epsilon, rng), rng.integers(of.tables, size=len(s))
        worth = np.where(ended, 0.0, of.ahead(Next(q[every, :, there], then, table)))
        visits[every, table, s, a] += 1
        size = of.alpha / visits[every, table, s, a] ** of.power
        q[every, table, s, a] += size * (reward + of.gamma * worth - q[every, table, s, a])
        t += 1
        over = ended | (t == limit) if limit else ended
        t[over] = 0
        s = np.where(over, simulator.begin(rng, len(s)), there)
        a = np.where(over, chosen(q[every, :, s], of.epsilon, rng), then)
    return q, visits, s, a, t
