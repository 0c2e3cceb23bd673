"""Whole episodes of many runs at once, and the returns that follow their steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ray_jobs.tabular.draws import Simulator, place
from ray_jobs.tabular.mdp import MDP, Array, ends_for_sure
from ray_jobs.tabular.problems import policy_of

LONGEST = 100_000
"""Steps of an episode."""
Ints = NDArray[np.int64]


class Step(NamedTuple):
    """One step of the episodes that are not over yet."""

    rows: Ints
    """Their numbers [K]; the arrays below have an entry for each."""
    s: Ints
    a: Ints
    reward: Array
    after: Ints
    """The next state; the number of states at the end."""


def play(simulator: Simulator, policies: Array, which: Ints, s: Ints, a: Ints, rng: np.random.Generator) -> list[Step]:
    """The steps of N episodes.

    Args:
        policies: [P, S, A].
        which: number of the policy that plays each episode [N].
        s: the first states [N].
        a: the first actions [N].

    Raises:
        ValueError: an episode has not ended after `LONGEST` steps.
    """
    steps, rows, states = [], np.arange(len(s)), policies.shape[1]
    edges = policies.cumsum(-1)[..., :-1]
    for _ in range(LONGEST):
        after, reward = simulator.step(s, a, rng)
        steps.append(Step(rows, s, a, reward, after))
        rows, s = rows[after < states], after[after < states]
        if not len(rows):
            return steps
        a = place(edges[which[rows], s], rng.random(len(rows)))
    raise ValueError(f"An episode has not ended after {LONGEST:,} steps: choose another environment or policy.")


def drawn(policies: Array, which: Ints, s: Ints, rng: np.random.Generator) -> Ints:
    """An action [N] in each state s [N] of the policy `which` [N] of policies [P, S, A]."""
    return place(policies[which, s].cumsum(-1)[:, :-1], rng.random(len(s)))


def returns(steps: list[Step], gamma: float) -> Iterator[tuple[Step, Array]]:
    """Each step, the last one first, with the discounted returns [K] that follow its states."""
    g = np.zeros(len(steps[0].rows))
    for step in reversed(steps):
        g[step.rows] = step.reward + gamma * g[step.rows]
        yield step, g[step.rows]


def first_visits(keys: Iterable[tuple[Ints, Ints]], rows: int, kinds: int) -> list[NDArray[np.bool_]]:
    """Whether each of (rows [K], kind of each [K]) is the first of its kind in its row, step by step."""
    seen, found = np.zeros((rows, kinds), bool), []
    for row, kind in keys:
        found.append(~seen[row, kind])
        seen[row, kind] = True
    return found


def play_policy(simulator: Simulator, policy: Array, runs: int, rng: np.random.Generator) -> list[Step]:
    """The steps of an episode of each run under a policy [S, A]."""
    which, s = np.zeros(runs, np.int64), simulator.begin(rng, runs)
    return play(simulator, policy[None], which, s, drawn(policy[None], which, s, rng), rng)


def ending(mdp: MDP, policy: str, env: str) -> Array:
    """The policy [S, A] that a setting names, if it ends every episode.

    Raises:
        ValueError: there is no such policy, or some of its episodes never end.
    """
    found = policy_of(policy, mdp)
    if not ends_for_sure(mdp, found):
        raise ValueError(
            f"Episodes of {env} need not end under the policy {policy}: this method learns from whole episodes."
        )
    return found
