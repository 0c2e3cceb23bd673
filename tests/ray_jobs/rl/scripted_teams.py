"""Environments of several agents whose episodes are known in advance."""

from __future__ import annotations

import gymnasium as gym
import numpy as np


class Team:
    """Two agents in PettingZoo's parallel API: 'a' sees (t,), is done after 2 steps; 'b' sees (10, t) and is cut after 4.

    Each is paid its action plus 1. An agent that is done must get no action.
    """

    possible_agents = ("a", "b")

    def __init__(self, ends: str = "cut") -> None:
        """`ends`: how b ends, 'cut' or 'terminated'."""
        self.ends = ends

    def observation_space(self, agent):
        return gym.spaces.Box(-np.inf, np.inf, (1 if agent == "a" else 2,), np.float32)

    def action_space(self, agent):
        return gym.spaces.Discrete(3 if agent == "a" else 2)

    def look(self):
        return {a: np.array([self.t] if a == "a" else [10, self.t], np.float32) for a in self.agents}

    def reset(self, seed=None, options=None):
        self.agents, self.t = ["a", "b"], 0
        return self.look(), {}

    def step(self, actions):
        assert list(actions) == self.agents
        self.t += 1
        seen, over = self.look(), self.t == 4
        ended = {a: (a == "a" and self.t == 2) or (over and self.ends == "terminated") for a in self.agents}
        cut = dict.fromkeys(self.agents, over and self.ends == "cut")
        paid = {a: actions[a] + 1.0 for a in self.agents}
        self.agents = [a for a in self.agents if not (ended[a] or cut[a])]
        return seen, paid, ended, cut, {}

    def close(self): ...


class Poor(Team):
    """One of its agents' rewards is NaN at the third step."""

    def step(self, actions):
        seen, paid, *rest = super().step(actions)
        return seen, paid | ({"b": float("nan")} if self.t == 3 else {}), *rest
