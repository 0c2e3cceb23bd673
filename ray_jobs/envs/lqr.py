"""Linear dynamics with a quadratic cost: the control problem whose best policy, values and policy gradient are known.

x' = A x + B u + noise, reward -(x'Qx + u'Ru), discounted by gamma. A policy is a gain K [U, X], u = -K x.

Source: Bertsekas 2012, Dynamic programming and optimal control, section 3.1; Fazel et al. 2018, arXiv:1801.05039, lemma 1.
Differs: discounted, and with noise in every step.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_are, solve_discrete_lyapunov

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Lqr:
    """The problem; states start from a normal of covariance `start`, and each step adds one of covariance `noise`."""

    A: Array
    """[X, X]"""
    B: Array
    """[X, U]"""
    Q: Array
    """[X, X]"""
    R: Array
    """[U, U]"""
    start: Array
    """[X, X]"""
    noise: Array
    """[X, X]"""
    gamma: float


def pendulum_like(gamma: float = 0.95) -> Lqr:
    """A cart with position and speed; the goal is to stand still at the origin."""
    return Lqr(
        A=np.array([[1.0, 0.2], [0.0, 0.9]]),
        B=np.array([[0.0], [0.4]]),
        Q=np.diag([1.0, 0.1]),
        R=np.array([[0.1]]),
        start=np.diag([1.0, 0.25]),
        noise=np.diag([1e-3, 1e-3]),
        gamma=gamma,
    )


def closed_loop(lqr: Lqr, gain: Array) -> Array:
    """Dynamics [X, X] under the gain [U, X], times the root of gamma, which is the only effect of discounting.

    Raises:
        ValueError: the discounted cost of this gain is infinite.
    """
    moves = np.sqrt(lqr.gamma) * (lqr.A - lqr.B @ gain)
    if np.abs(np.linalg.eigvals(moves)).max() >= 1:
        raise ValueError("The gain does not keep the state from growing: its discounted cost is infinite.")
    return moves


def value_matrix(lqr: Lqr, gain: Array) -> Array:
    """P [X, X]: the cost from x under the gain is x'Px and a constant."""
    cost = lqr.Q + gain.T @ lqr.R @ gain
    return solve_discrete_lyapunov(closed_loop(lqr, gain).T, cost)


def performance(lqr: Lqr, gain: Array) -> float:
    """The expected discounted return of the gain, from the start."""
    p = value_matrix(lqr, gain)
    return -float(np.trace(p @ lqr.start) + lqr.gamma / (1 - lqr.gamma) * np.trace(p @ lqr.noise))


def visits(lqr: Lqr, gain: Array) -> Array:
    """The discounted second moment [X, X] of the states: the sum over t of gamma^t E[x x']."""
    fresh = lqr.start + lqr.gamma / (1 - lqr.gamma) * lqr.noise
    return solve_discrete_lyapunov(closed_loop(lqr, gain), fresh)


def action_gradient(lqr: Lqr, gain: Array) -> Array:
    """E [U, X] such that dQ/du = 2 E x at u = -K x, where Q is the action's value."""
    p = value_matrix(lqr, gain)
    return (lqr.R + lqr.gamma * lqr.B.T @ p @ lqr.B) @ gain - lqr.gamma * lqr.B.T @ p @ lqr.A


def policy_gradient(lqr: Lqr, gain: Array) -> Array:
    """The gradient [U, X] of `performance` with respect to the gain."""
    return -2 * action_gradient(lqr, gain) @ visits(lqr, gain)


def best_gain(lqr: Lqr) -> Array:
    """The gain [U, X] of the least cost, by Riccati's equation."""
    root = np.sqrt(lqr.gamma)
    p = solve_discrete_are(root * lqr.A, root * lqr.B, lqr.Q, lqr.R)
    return np.linalg.solve(lqr.R + lqr.gamma * lqr.B.T @ p @ lqr.B, lqr.gamma * lqr.B.T @ p @ lqr.A)


class LqrEnv(gym.Env):
    """Plays the problem; episodes are cut after `length` steps. Actions are bounded by `limit`, which good gains hardly reach."""

    def __init__(self, lqr: Lqr, length: int, limit: float = 10.0) -> None:
        self.lqr, self.length = lqr, length
        size, actions = lqr.B.shape
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gym.spaces.Box(-limit, limit, (actions,), np.float32)
        self.x, self.t = np.zeros(size), 0

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Draw the first state."""
        super().reset(seed=seed)
        self.x, self.t = self.np_random.multivariate_normal(np.zeros(len(self.x)), self.lqr.start), 0
        return self.x.astype(np.float32), {}

    def step(self, action: NDArray):
        """Apply u = action; the reward is minus the cost of x and u."""
        u, lqr = np.asarray(action, np.float64), self.lqr
        reward = -float(self.x @ lqr.Q @ self.x + u @ lqr.R @ u)
        drift = self.np_random.multivariate_normal(np.zeros(len(self.x)), lqr.noise)
        self.x, self.t = lqr.A @ self.x + lqr.B @ u + drift, self.t + 1
        return self.x.astype(np.float32), reward, False, self.t >= self.length, {}


def make(length: int = 50, gamma: float = 0.95) -> LqrEnv:
    """The cart as an environment: 'ray_jobs.envs.lqr:make' in a recipe."""
    return LqrEnv(pendulum_like(gamma), length)
