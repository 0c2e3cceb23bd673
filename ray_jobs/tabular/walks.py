"""Random walks on a line, whose values are known."""

from __future__ import annotations

import numpy as np

from ray_jobs.tabular.mdp import MDP


def random_walk(states: int = 5, left: float = 0.0, right: float = 1.0, gamma: float = 1.0, seed: int = 0) -> MDP:
    """A walk of so many states that starts in the middle; a step off either end ends it, with a reward.

    Source: Sutton & Barto 2018, example 6.2 (5 states, rewards 0 and 1) and example 7.1 (19 states, rewards -1 and 1).

    Args:
        left, right: rewards of the last step; all others pay 0.
        seed: nothing is random here; every function that returns an MDP is given one.
    """
    transition, reward = np.zeros((states, 2, states)), np.zeros((states, 2))
    inner = np.arange(states)
    transition[inner[1:], 0, inner[:-1]] = transition[inner[:-1], 1, inner[1:]] = 1
    reward[0, 0], reward[-1, 1] = left, right
    return MDP(transition, reward, np.eye(states)[states // 2], gamma)
