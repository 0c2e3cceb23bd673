"""Processes of one or two states, on which the estimates of Monte Carlo methods have known faults."""

from __future__ import annotations

import numpy as np

from ray_jobs.tabular.mdp import MDP, Array, Outcomes


def loop(again: float = 0.6, gamma: float = 1.0, seed: int = 0) -> MDP:
    """One state that follows itself with a probability and pays 1 each time; its value is again / (1 - gamma again).

    At gamma = 1 the mean of the every-visit estimate after n episodes is n / (n + 1) times the value.

    Args:
        seed: nothing is random here; every function that returns an MDP is given one.
    """
    outcomes = Outcomes(np.array([[[again, 1 - again]]]), np.array([[[0, 1]]]), np.array([[[1.0, 0.0]]]))
    return MDP(np.full((1, 1, 1), again), np.full((1, 1), again), np.ones(1), gamma, outcomes)


def infinite_variance(gamma: float = 1.0, seed: int = 0) -> MDP:
    """One state: right ends the episode for 0; left stays with probability 0.9 for 0, or else ends the episode for 1.

    Source: Sutton & Barto 2018, example 5.5: under `left` the value is 1, and ordinary importance sampling has infinite variance.

    Args:
        seed: nothing is random here.
    """
    outcomes = Outcomes(
        np.array([[[0.9, 0.1], [1.0, 0.0]]]), np.array([[[0, 1], [1, 1]]]), np.array([[[0.0, 1.0], [0.0, 0.0]]])
    )
    return MDP(np.array([[[0.9], [0.0]]]), np.array([[0.1, 0.0]]), np.ones(1), gamma, outcomes)


def left(mdp: MDP) -> Array:
    """The policy [S, A] that always takes the first action."""
    return np.eye(mdp.reward.shape[1])[np.zeros(len(mdp.reward), int)]
