"""Steps of Q-learning per second, or runs of value iteration per second, of bettermdptools on FrozenLake8x8-v1."""

import json
import sys
import time

import gymnasium as gym
import numpy as np
from bettermdptools.algorithms.planner import Planner
from bettermdptools.algorithms.rl import RL


class Counted(gym.Wrapper):
    """Counts steps."""

    steps = 0

    def step(self, action):
        """One step."""
        self.steps += 1
        return self.env.step(action)


def main():
    """Measure, and print the result."""
    env = Counted(gym.make("FrozenLake8x8-v1"))
    begun = time.perf_counter()
    if sys.argv[1] == "q_learning":
        RL(env).q_learning(gamma=0.99, n_episodes=1500, seed=0)
        found = {"per_s": env.steps / (time.perf_counter() - begun)}
    else:
        kind = getattr(Planner(env.unwrapped.P), sys.argv[2])
        values = kind(gamma=0.99, n_iters=5000, theta=1e-12, dtype=np.float64)[0]
        found = {"per_s": 1 / (time.perf_counter() - begun), "start": float(values[0])}
    print("\n" + json.dumps(found))


main()
