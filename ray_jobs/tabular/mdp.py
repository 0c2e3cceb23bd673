"""Finite Markov decision processes and the quantities of them that a linear solve gives exactly; numpy in float64 only.

S states, A actions. A policy is an array [S, A] of probabilities; a deterministic one has a single 1 in each row.

Source: Sutton & Barto 2018, sections 3.5, 4.1 and 13.2; Haarnoja et al. 2017, arXiv:1702.08165, theorem 1 for the soft values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
"""Of float64; numpy's own hints promise no more than floating."""

CERTAIN = 1e-9
"""Probabilities that sum to less than 1 by no more than this are taken to sum to 1: the rest is rounding."""


class Outcomes(NamedTuple):
    """What may follow each state and action: K outcomes, of which the last ones are impossible where there are fewer."""

    probability: Array
    """[S, A, K]"""
    after: NDArray[np.int64]
    """The next state [S, A, K]; S where the episode ends."""
    reward: Array
    """[S, A, K]"""


@dataclass(frozen=True)
class MDP:
    """A finite process whose episodes may end; time limits are no part of it."""

    transition: Array
    """T [S, A, S]: probability that the episode continues in s' after action a in s. Mass that is missing ends the episode."""
    reward: Array
    """R [S, A]: mean reward of action a in s, the rewards of last steps included."""
    start: Array
    """[S]: probabilities of the first state."""
    gamma: float
    """Discount per step; 1 is allowed where the policy ends every episode for sure."""
    outcomes: Outcomes | None = None
    """The rewards of single outcomes; without them every outcome of a state and action pays its mean reward."""


def random_mdp(states: int = 5, actions: int = 3, gamma: float = 0.9, seed: int = 0) -> MDP:
    """Transitions and starts from flat Dirichlet distributions, rewards standard normal; no episode ends."""
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.ones(states), (states, actions))
    return MDP(rows, rng.normal(size=(states, actions)), rng.dirichlet(np.ones(states)), gamma)


def softmax(logits: Array) -> Array:
    """Policy [S, A] of logits [S, A]."""
    rest = np.exp(logits - logits.max(-1, keepdims=True))
    return rest / rest.sum(-1, keepdims=True)


def uniform_policy(mdp: MDP) -> Array:
    """Policy [S, A] that takes every action with the same probability."""
    return np.full(mdp.reward.shape, 1 / mdp.reward.shape[1])


def state_transitions(mdp: MDP, policy: Array) -> Array:
    """T_pi [S, S]: probability that the episode continues in s' after s under a policy [S, A]."""
    return np.einsum("sa,sat->st", policy, mdp.transition)


def state_rewards(mdp: MDP, policy: Array) -> Array:
    """r_pi [S]: mean reward of the next step under a policy [S, A]."""
    return (policy * mdp.reward).sum(-1)


def ends_for_sure(mdp: MDP, policy: Array) -> bool:
    """Whether episodes under a policy [S, A] end with probability 1 from every state: from each, a state that may end is reached."""
    step = state_transitions(mdp, policy)
    can_end = step.sum(-1) < 1 - CERTAIN
    for _ in range(len(step)):
        wider = can_end | (step[:, can_end] > 0).any(-1)
        if (wider == can_end).all():
            break
        can_end = wider
    return bool(can_end.all())


def state_values(mdp: MDP, policy: Array) -> Array:
    """V [S] of a policy [S, A]: (I - gamma T_pi) V = r_pi.

    Raises:
        ValueError: gamma is 1 and the policy does not end every episode, so that the matrix is singular.
    """
    return np.linalg.solve(_discounted_system(mdp, policy), state_rewards(mdp, policy))


def action_values(mdp: MDP, policy: Array) -> Array:
    """Q [S, A] of a policy [S, A].

    Raises:
        ValueError: as `state_values`.
    """
    return backup(mdp, state_values(mdp, policy))


def backup(mdp: MDP, v: Array) -> Array:
    """Q [S, A] = R + gamma T v: one step of reward, then the values v [S] of the state where it leads."""
    return mdp.reward + mdp.gamma * (mdp.transition.reshape(-1, len(v)) @ v).reshape(mdp.reward.shape)


def occupancy(mdp: MDP, policy: Array) -> Array:
    """Discounted visits [S]: the sum over t of gamma^t P(s_t = s). Without ends they add up to 1 / (1 - gamma).

    Raises:
        ValueError: as `state_values`.
    """
    return np.linalg.solve(_discounted_system(mdp, policy).T, mdp.start)


def stationary(mdp: MDP, policy: Array) -> Array:
    """Share of time [S] that a policy spends in each state in the long run; for a process whose episodes never end."""
    step = state_transitions(mdp, policy)
    equations = np.vstack([step.T - np.eye(len(step)), np.ones(len(step))])
    return np.linalg.lstsq(equations, np.append(np.zeros(len(step)), 1.0), rcond=None)[0]


def performance(mdp: MDP, policy: Array) -> float:
    """Expected discounted return from the start.

    Raises:
        ValueError: as `state_values`.
    """
    return float(mdp.start @ state_values(mdp, policy))


def policy_gradient(mdp: MDP, logits: Array) -> Array:
    """Gradient [S, A] of `performance` of softmax(logits): visits times pi times advantage.

    Raises:
        ValueError: as `state_values`.
    """
    policy = softmax(logits)
    advantage = action_values(mdp, policy) - state_values(mdp, policy)[:, None]
    return occupancy(mdp, policy)[:, None] * policy * advantage


def soft_action_values(mdp: MDP, alpha: float, sweeps: int = 2000) -> Array:
    """Q [S, A] of the best policy under an entropy bonus of weight alpha: the fixed point of the soft Bellman operator."""
    q = np.zeros_like(mdp.reward)
    for _ in range(sweeps):
        top = q.max(-1)
        q = backup(mdp, top + alpha * np.log(np.exp((q - top[:, None]) / alpha).sum(-1)))
    return q


def _discounted_system(mdp: MDP, policy: Array) -> Array:
    """I - gamma T_pi [S, S].

    Raises:
        ValueError: it is singular.
    """
    if mdp.gamma >= 1 and not ends_for_sure(mdp, policy):
        raise ValueError(
            "Without a discount a policy has values only if it ends every episode, and this one does not: "
            "take gamma below 1, or another policy."
        )
    return np.eye(len(mdp.start)) - mdp.gamma * state_transitions(mdp, policy)
