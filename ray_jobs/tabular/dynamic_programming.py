"""Dynamic programming on a known MDP: policy evaluation, policy iteration and value iteration, as pure functions in float64.

One sweep at a time: `v = sweep(mdp, v)` until `change_for(mdp, error)` is reached, then `policy = greedy(mdp, v)` and the exact values of
that policy, `policy_values(mdp, policy)`. `value_iteration` and `policy_iteration` are these loops.

Source: Sutton & Barto 2018, sections 4.1 to 4.4; Puterman 1994, theorem 6.3.1 (when to stop), section 6.5 (modified policy iteration).
Differs: the book's theta bounds the change of the last sweep; here `error` bounds the distance to the true values.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ray_jobs.tabular.mdp import MDP, Array, backup, state_rewards, state_transitions, state_values, uniform_policy

BETTER = 1e-12
"""By how much an action must be better to replace the policy's own, relative to the size of the values (at least 1).

Between ties, rounding would change the policy for ever (Sutton & Barto 2018, exercise 4.4).
"""
ROUNDING = 4 * np.finfo(np.float64).eps
"""Change of a sweep, relative to the values, that is rounding."""

policy_values = state_values
"""Exact V [S] of a policy [S, A], by a linear solve; see `mdp.state_values`."""


class Solution(NamedTuple):
    """What an iteration has found."""

    values: Array
    """V [S]"""
    policy: Array
    """[S, A]: one action of probability 1 in each state; policy iteration keeps the row it started from where all actions are as good."""
    rounds: int
    """Sweeps of value iteration, or improvements of policy iteration."""


def sweep(mdp: MDP, v: Array) -> Array:
    """One sweep of value iteration: v'(s) = max_a R(s, a) + gamma sum_s' T(s, a, s') v(s') (eq. 4.10); [S] to [S]."""
    return backup(mdp, v).max(-1)


def evaluation_sweep(mdp: MDP, policy: Array, v: Array) -> Array:
    """One sweep of policy evaluation: v' = r_pi + gamma T_pi v (eq. 4.5); [S] to [S]."""
    return state_rewards(mdp, policy) + mdp.gamma * state_transitions(mdp, policy) @ v


def greedy(mdp: MDP, v: Array, policy: Array | None = None) -> Array:
    """The policy [S, A] that is greedy for the values v [S].

    Args:
        policy: the policy before; in each state it is kept, unless another action is better by more than BETTER. Without one the first
            of the best actions is taken.
    """
    q = backup(mdp, v)
    return np.eye(q.shape[1])[q.argmax(-1)] if policy is None else improve(q, policy, v)


def improve(q: Array, policy: Array, v: Array) -> Array:
    """The policy [B, A] of some states, of values v [B], with the best action by q [B, A] where that is better by more than BETTER."""
    best = np.eye(q.shape[1])[q.argmax(-1)]
    gain = q.max(-1) - (policy * q).sum(-1)
    return np.where((gain > BETTER * np.maximum(1.0, np.abs(v)))[:, None], best, policy)


def change_for(mdp: MDP, error: float) -> float:
    """Largest change of a sweep after which the values are within `error` of the limit: error (1 - gamma) / gamma.

    At gamma = 1 there is no such bound. There `error` itself is returned: compare the result with `policy_values`.
    """
    if mdp.gamma >= 1:
        return error
    return error * (1 - mdp.gamma) / mdp.gamma if mdp.gamma > 0 else math.inf


def settled(mdp: MDP, before: Array, after: Array, error: float) -> bool:
    """Whether a sweep from `before` to `after` [S] changed so little that `after` is within `error` of the limit, or is rounding."""
    bound = max(change_for(mdp, error), ROUNDING * float(np.abs(after).max()))
    return bool(np.abs(after - before).max() <= bound)


def value_iteration(mdp: MDP, error: float = 1e-12, v: Array | None = None, most: int = 1_000_000) -> Solution:
    """Optimal values within `error`, and the policy that is greedy for them.

    Args:
        error: largest distance to the optimal values; see `change_for` for gamma = 1.
        v: [S] values to start from; 0 without.
        most: sweeps after which to stop in any case.
    """
    before: Array = np.zeros(len(mdp.start)) if v is None else v
    v, rounds = sweep(mdp, before), 1
    while rounds < most and not settled(mdp, before, v, error):
        before, v, rounds = v, sweep(mdp, v), rounds + 1
    return Solution(v, greedy(mdp, v), rounds)


def policy_evaluation(mdp: MDP, policy: Array, error: float = 1e-12, most: int = 1_000_000) -> Array:
    """V [S] of a policy [S, A] by sweeps from 0, within `error`; `policy_values` solves for it instead."""
    v: Array = np.zeros(len(mdp.start))
    for _ in range(most):
        before, v = v, evaluation_sweep(mdp, policy, v)
        if settled(mdp, before, v, error):
            break
    return v


def policy_iteration(mdp: MDP, policy: Array | None = None) -> Solution:
    """An optimal policy and its exact values: solve for the policy's values, improve the policy, until it stays.

    Args:
        policy: [S, A] to start from; the uniform one without, which ends every episode that can end at all.

    Raises:
        ValueError: gamma is 1, and a policy on the way does not end every episode.
    """
    policy = uniform_policy(mdp) if policy is None else policy
    rounds = 0
    while True:
        v = policy_values(mdp, policy)
        better = greedy(mdp, v, policy)
        if (better == policy).all():
            return Solution(v, policy, rounds)
        policy, rounds = better, rounds + 1


def modified_policy_iteration(mdp: MDP, sweeps: int, error: float = 1e-12, most: int = 1_000_000) -> Solution:
    """Policy iteration whose evaluation is `sweeps` sweeps: 1 is value iteration, many are policy iteration.

    Args:
        sweeps: sweeps between two improvements, at least 1.
        error: largest distance to the optimal values; see `change_for` for gamma = 1.
        most: improvements after which to stop in any case.
    """
    before: Array = np.zeros(len(mdp.start))
    v, rounds = sweep(mdp, before), 1
    while rounds < most and not settled(mdp, before, v, error):
        policy = greedy(mdp, before)
        for _ in range(sweeps - 1):
            v = evaluation_sweep(mdp, policy, v)
        before, v, rounds = v, sweep(mdp, v), rounds + 1
    return Solution(v, greedy(mdp, v), rounds)
