"""SARSA, expected SARSA, Q-learning and double Q-learning: each differs in what it takes the next state to be worth.

System: SARSA; expected SARSA; Q-learning; double Q-learning
Source: Sutton & Barto 2018, sections 6.4 to 6.7; Watkins & Dayan 1992, doi:10.1007/BF00992698; van Hasselt 2010, "Double Q-learning".
Differs: the next action is chosen before the update of all of them, which changes the behaviour of Q-learning alone and only where a
state follows itself; see `controlled` for what all share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray_jobs.recipe.ranges import Count, Finite, Part, Share
from ray_jobs.tabular.controlled import Controlled, Next, soft
from ray_jobs.tabular.mdp import Array


@dataclass(frozen=True)
class Control(Controlled):
    """The settings that all methods share."""

    env: str = "CliffWalking-v1"
    """Gymnasium's id of an environment with a table, a file of arrays (.npz), or 'package.module:function' that returns an MDP."""
    env_options: Mapping[str, Any] | None = None
    """Keyword arguments of the environment."""
    gamma: Share = 1.0
    """Discount per step."""
    epsilon: Share = 0.1
    """Probability of a random action."""
    alpha: Part = 0.5
    """Step size at the first visit of a state and action."""
    power: Share = 0.0
    """The step size falls with this power of the visits; it converges above 1/2, and 0 keeps it."""
    initial: Finite = 0.0
    """Q before the first step."""
    runs: Count = 100
    """Runs at once."""
    block: Count = 1_000
    """Steps of each run in one step of the study."""


@dataclass(frozen=True)
class SARSA(Control):
    """The next state is worth Q of the action that is taken there; it learns the best policy that explores."""

    soft = True

    def ahead(self, next_: Next) -> Array:
        """Q(s', a')."""
        return next_.q[next_.every, next_.table, next_.action]


@dataclass(frozen=True)
class ExpectedSARSA(Control):
    """The next state is worth the mean of Q over the actions that may be taken there."""

    soft = True

    def ahead(self, next_: Next) -> Array:
        """sum over a of pi(a | s') Q(s', a)."""
        own = next_.q[next_.every, next_.table]
        return (soft(own, self.epsilon) * own).sum(-1)


@dataclass(frozen=True)
class QLearning(Control):
    """The next state is worth the largest Q there; it learns the best policy while it explores."""

    def ahead(self, next_: Next) -> Array:
        """max over a of Q(s', a)."""
        return next_.q[next_.every, next_.table].max(-1)


@dataclass(frozen=True)
class DoubleQ(Control):
    """One of two tables is updated, each as often: it chooses the best next action, and the other table values it."""

    tables = 2

    def ahead(self, next_: Next) -> Array:
        """Q2(s', argmax over a of Q1(s', a)), or with the tables exchanged; ties are broken at random."""
        best = soft(next_.q[next_.every, next_.table], 0.0)
        return (best * next_.q[next_.every, 1 - next_.table]).sum(-1)
