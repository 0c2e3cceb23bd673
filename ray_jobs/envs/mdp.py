"""Small Markov decision processes whose every quantity is a linear solve, and the environment that plays them.

Source: Sutton & Barto 2018, sections 3.5, 4.1 and 13.2; Haarnoja et al. 2017, arXiv:1702.08165, theorem 1 for the soft values.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MDP:
    """A finite process that never terminates; what is said of it below is of its discounted sums over infinite time."""

    transition: Array
    """[S, A, S]"""
    reward: Array
    """[S, A]"""
    start: Array
    """[S]"""
    gamma: float


def random_mdp(states: int = 5, actions: int = 3, gamma: float = 0.9, seed: int = 0) -> MDP:
    """Transitions and starts from flat Dirichlet distributions, rewards standard normal."""
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.ones(states), (states, actions))
    return MDP(rows, rng.normal(size=(states, actions)), rng.dirichlet(np.ones(states)), gamma)


def softmax(logits: Array) -> Array:
    """Policy [S, A] of logits [S, A]."""
    rest = np.exp(logits - logits.max(-1, keepdims=True))
    return rest / rest.sum(-1, keepdims=True)


def state_values(mdp: MDP, policy: Array) -> Array:
    """V [S] of a policy [S, A]: (I - gamma P_pi) V = r_pi."""
    moves = np.einsum("sa,sat->st", policy, mdp.transition)
    return np.linalg.solve(np.eye(len(moves)) - mdp.gamma * moves, (policy * mdp.reward).sum(-1))


def action_values(mdp: MDP, policy: Array) -> Array:
    """Q [S, A] of a policy [S, A]."""
    return mdp.reward + mdp.gamma * mdp.transition @ state_values(mdp, policy)


def occupancy(mdp: MDP, policy: Array) -> Array:
    """Discounted visits [S]: the sum over t of gamma^t P(s_t = s); they add up to 1 / (1 - gamma)."""
    moves = np.einsum("sa,sat->st", policy, mdp.transition)
    return np.linalg.solve(np.eye(len(moves)) - mdp.gamma * moves.T, mdp.start)


def stationary(mdp: MDP, policy: Array) -> Array:
    """The share of time [S] that a policy spends in each state in the long run."""
    moves = np.einsum("sa,sat->st", policy, mdp.transition)
    equations = np.vstack([moves.T - np.eye(len(moves)), np.ones(len(moves))])
    return np.linalg.lstsq(equations, np.append(np.zeros(len(moves)), 1.0), rcond=None)[0]


def performance(mdp: MDP, policy: Array) -> float:
    """The expected discounted return from the start."""
    return float(mdp.start @ state_values(mdp, policy))


def policy_gradient(mdp: MDP, logits: Array) -> Array:
    """The gradient [S, A] of `performance` of softmax(logits): visits times pi times advantage."""
    policy = softmax(logits)
    advantage = action_values(mdp, policy) - state_values(mdp, policy)[:, None]
    return occupancy(mdp, policy)[:, None] * policy * advantage


def soft_action_values(mdp: MDP, alpha: float, sweeps: int = 2000) -> Array:
    """Q [S, A] of the best policy under an entropy bonus of weight alpha: the fixed point of the soft Bellman operator."""
    q = np.zeros_like(mdp.reward)
    for _ in range(sweeps):
        top = q.max(-1)
        soft = top + alpha * np.log(np.exp((q - top[:, None]) / alpha).sum(-1))
        q = mdp.reward + mdp.gamma * mdp.transition @ soft
    return q


class Tabular(gym.Env):
    """Plays an MDP; observes the state as a one-hot vector. Episodes never terminate, and are cut after `length` steps."""

    def __init__(self, mdp: MDP, length: int) -> None:
        self.mdp, self.length = mdp, length
        states, actions = mdp.reward.shape
        self.observation_space = gym.spaces.Box(0.0, 1.0, (states,), np.float32)
        self.action_space = gym.spaces.Discrete(actions)
        self.ladder = mdp.transition.cumsum(-1)
        """[S, A, S]: a uniform number falls on the next state's rung."""
        self.state = self.t = 0

    def look(self) -> NDArray[np.float32]:
        return np.eye(len(self.mdp.start), dtype=np.float32)[self.state]

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.state, self.t = int(self.np_random.choice(len(self.mdp.start), p=self.mdp.start)), 0
        return self.look(), {}

    def step(self, action: int):
        reward = float(self.mdp.reward[self.state, action])
        rungs = self.ladder[self.state, action]
        self.state = int(np.searchsorted(rungs[:-1], self.np_random.random(), side="right"))
        self.t += 1
        return self.look(), reward, False, self.t >= self.length, {}


def make(states: int = 5, actions: int = 3, gamma: float = 0.9, seed: int = 0, length: int = 50) -> Tabular:
    """A random MDP as an environment: 'ray_jobs.envs.mdp:make' in a recipe."""
    return Tabular(random_mdp(states, actions, gamma, seed), length)
