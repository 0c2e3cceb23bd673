"""Draws from tables of probabilities."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ray_jobs.tabular.mdp import CERTAIN, MDP, Array, Outcomes


def place(edges: Array, u: Array) -> NDArray[np.int64]:
    """The place [R] of uniform numbers [R] among cumulative probabilities [R, K]; K where they lie above all."""
    return (edges <= u[:, None]).sum(-1)


def outcomes_of(mdp: MDP) -> Outcomes:
    """The outcomes of each state and action; where an MDP does not have them, its transitions and the end, with mean rewards."""
    if mdp.outcomes is not None:
        return mdp.outcomes
    probability = np.concatenate([mdp.transition, (1 - mdp.transition.sum(-1))[..., None]], -1)
    probability[..., -1][probability[..., -1] <= CERTAIN] = 0.0
    after = np.broadcast_to(np.arange(len(mdp.start) + 1), probability.shape)
    return Outcomes(probability, after, np.broadcast_to(mdp.reward[..., None], probability.shape))


class Simulator(NamedTuple):
    """An MDP, ready to be played by many runs at once."""

    first: Array
    """Cumulative probabilities of the first state [1, S - 1]."""
    edges: Array
    """Cumulative probabilities of the outcomes but the last [S, A, K - 1]."""
    after: NDArray[np.int64]
    reward: Array

    @classmethod
    def of(cls, mdp: MDP) -> Simulator:
        """The simulator of an MDP."""
        probability, after, reward = outcomes_of(mdp)
        return cls(mdp.start.cumsum()[None, :-1], probability.cumsum(-1)[..., :-1], after, reward)

    def begin(self, rng: np.random.Generator, runs: int) -> NDArray[np.int64]:
        """The first states of so many runs."""
        return place(self.first, rng.random(runs))

    def step(
        self, s: NDArray[np.int64], a: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], Array]:
        """The next state [R], S where the episode ends, and the reward [R] after action a [R] in state s [R]."""
        k = place(self.edges[s, a], rng.random(len(s)))
        return self.after[s, a, k], self.reward[s, a, k]
