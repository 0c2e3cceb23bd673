"""Two examples in which off-policy learning with linear values diverges. All rewards are 0, so all values are 0."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ray_jobs.tabular.mdp import Array


@dataclass(frozen=True)
class Example:
    """States that a policy b visits while the values of a policy pi are learned; n weights."""

    features: Array
    """x [S, n]"""
    behaviour: Array
    """P_b [S, S]: what follows a state while b acts."""
    target: Array
    """P_pi [S, S]"""
    visits: Array
    """d [S]: how often each state is learned from; also where walks start."""
    gamma: float
    begin: Array
    """The first weights [n]."""
    walks: bool = True
    """Whether d is how often b is in each state."""

    @property
    def ratio(self) -> Array:
        """rho [S, S]: how much likelier a step is under pi than under b; 0 where b never takes it."""
        return np.divide(self.target, self.behaviour, out=np.zeros_like(self.target), where=self.behaviour > 0)

    def on_policy(self) -> Example:
        """The same with b = pi, and with the share of time that pi spends in each state as d."""
        equations = np.vstack([self.target.T - np.eye(len(self.target)), np.ones(len(self.target))])
        visits = np.linalg.lstsq(equations, np.append(np.zeros(len(self.target)), 1.0), rcond=None)[0]
        visits = np.where(visits > 1e-12, visits, 0.0)
        return replace(self, behaviour=self.target, visits=visits / visits.sum(), walks=True)

    def tabular(self) -> Example:
        """The same with a weight for each state, which begins at the state's first value."""
        return replace(self, features=np.eye(len(self.visits)), begin=self.features @ self.begin)


def baird(gamma: float = 0.99) -> Example:
    """Baird's counterexample: seven states, eight weights.

    b goes to each state with probability 1/7; pi always goes to the seventh.

    Source: Baird 1995; as in Sutton & Barto 2018, example 11.1 (figure 11.1).
    """
    features = np.hstack([2 * np.eye(7), np.ones((7, 1))])
    features[6, 6:] = 1, 2
    target = np.zeros((7, 7))
    target[:, 6] = 1
    begin = np.array([1.0, 1, 1, 1, 1, 1, 10, 1])
    return Example(features, np.full((7, 7), 1 / 7), target, np.full(7, 1 / 7), gamma, begin)


def two_states(gamma: float = 0.99, end: float = 0.01) -> Example:
    """Tsitsiklis and Van Roy's counterexample: values w and 2w; the second state is left with probability `end`, which ends the episode.

    The end is a third state of value 0, after which the first follows. The two states are learned from equally often, though pi is
    nearly always in the second: that is what makes the updates off-policy.

    Source: Tsitsiklis & Van Roy 1996; as in Sutton & Barto 2018, example 11.2.
    """
    target = np.array([[0.0, 1.0, 0.0], [0.0, 1 - end, end], [1.0, 0.0, 0.0]])
    return Example(
        np.array([[1.0], [2.0], [0.0]]), target, target, np.array([0.5, 0.5, 0.0]), gamma, np.ones(1), walks=False
    )
