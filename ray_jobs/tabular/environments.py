"""Finite MDPs as environments, and Gymnasium's toy-text environments as MDPs.

Source: Sutton & Barto 2018, section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ray_jobs.tabular.mdp import CERTAIN, MDP, Outcomes, random_mdp

Table = Mapping[int, Mapping[int, Sequence[tuple[float, int, float, bool]]]]
"""Gymnasium's `P`: state -> action -> [(probability, next state, reward, whether the episode terminates)]."""


class Tabular(gym.Env):
    """Plays an MDP; observes the state as a one-hot vector, and zeros after the end. Episodes are cut after `length` steps."""

    def __init__(self, mdp: MDP, length: int) -> None:
        self.mdp, self.length = mdp, length
        states, actions = mdp.reward.shape
        self.observation_space = gym.spaces.Box(0.0, 1.0, (states,), np.float32)
        self.action_space = gym.spaces.Discrete(actions)
        self.cumulative = mdp.transition.cumsum(-1)
        """[S, A, S]: the first entry above a uniform number is the next state's."""
        self.state = self.t = 0
        self.ended = False

    def observe(self) -> NDArray[np.float32]:
        """The state [S], one-hot; zeros where the episode has ended."""
        one_hot = np.zeros(len(self.mdp.start), np.float32)
        one_hot[self.state] = not self.ended
        return one_hot

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Draw the first state."""
        super().reset(seed=seed)
        self.state, self.t = int(self.np_random.choice(len(self.mdp.start), p=self.mdp.start)), 0
        self.ended = False
        return self.observe(), {}

    def step(self, action: int):
        """Draw the next state, or the end."""
        reward = float(self.mdp.reward[self.state, action])
        cumulative, uniform = self.cumulative[self.state, action], self.np_random.random()
        self.ended = bool(uniform >= cumulative[-1] and cumulative[-1] < 1 - CERTAIN)
        if not self.ended:
            self.state = int(np.searchsorted(cumulative[:-1], uniform, side="right"))
        self.t += 1
        return self.observe(), reward, self.ended, self.t >= self.length and not self.ended, {}


def make(states: int = 5, actions: int = 3, gamma: float = 0.9, seed: int = 0, length: int = 50) -> Tabular:
    """A random MDP as an environment: 'ray_jobs.tabular.environments:make' in a recipe."""
    return Tabular(random_mdp(states, actions, gamma, seed), length)


def of_table(table: Table, start: NDArray[np.float64], gamma: float) -> MDP:
    """The MDP of Gymnasium's `P` and of the probabilities [S] of the first state.

    Outcomes with the same next state add up. One that terminates brings its reward and no transition.

    Raises:
        ValueError: the probabilities of a state and action do not sum to 1.
    """
    states, actions = len(table), len(table[0])
    merged = [[_merged(table[s][a], states, f"state {s}, action {a}") for a in range(actions)] for s in range(states)]
    most = max(len(found) for row in merged for found in row)
    padded = [[found + [(states, 0.0, 0.0)] * (most - len(found)) for found in row] for row in merged]
    after, gain, probability = np.moveaxis(np.array(padded), -1, 0)
    outcomes = Outcomes(probability, after.astype(np.int64), gain)
    transition = np.zeros((states, actions, states + 1))
    s, a, _ = np.indices(probability.shape)
    np.add.at(transition, (s, a, outcomes.after), probability)
    return MDP(
        transition[..., :-1].copy(), (probability * gain).sum(-1), np.asarray(start, np.float64), gamma, outcomes
    )


def _merged(outcomes: Sequence[tuple[float, int, float, bool]], states: int, where: str) -> list[tuple]:
    """The outcomes as (next state, or `states` at an end; reward; probability), sorted, each pair once."""
    total = sum(probability for probability, *_ in outcomes)
    if not abs(total - 1) <= CERTAIN:
        raise ValueError(
            f"The probabilities of {where} sum to {total:.6g}: those of every state and action must sum to 1."
        )
    found: dict[tuple[int, float], float] = {}
    for probability, to, gain, terminated in outcomes:
        key = (states if terminated else int(to), float(gain))
        found[key] = found.get(key, 0.0) + probability
    return [(*key, found[key]) for key in sorted(found) if found[key] > 0]


def of_environment(env: str, gamma: float, **options: Any) -> MDP:
    """The MDP that an environment with a table plays, such as "FrozenLake8x8-v1"; without its time limit.

    Args:
        env: a Gymnasium id.
        gamma: discount per step; the environment does not know it.
        options: of the environment, such as is_slippery=False.

    Raises:
        ValueError: the environment has no table `P`.
    """
    made = with_table(env, **options)
    return of_table(made.P, made.initial_state_distrib, gamma)


def with_table(env: str, **options: Any) -> Any:
    """A Gymnasium environment, unwrapped, that has a table `P`.

    Raises:
        ValueError: it has none.
    """
    made = gym.make(env, **options).unwrapped
    made.close()
    if not hasattr(made, "P") or not hasattr(made, "initial_state_distrib"):
        raise ValueError(
            f"The environment {env} has no table of its transitions: FrozenLake, CliffWalking and Taxi have."
        )
    return made
