"""Steps times runs per second of bandits and of Q-learning, or runs of value iteration per second, all in this process."""

import json
import sys
import time

import numpy as np

from ray_jobs.distributed.crew import Here
from ray_jobs.recipe.settings import build
from ray_jobs.tabular.dynamic_programming import value_iteration
from ray_jobs.tabular.problems import problem

POLICIES = {"epsilon-greedy": "bandit_epsilon", "UCB1": "bandit_ucb1", "Thompson": "bandit_thompson"}


def stepped(recipe, settings, steps, each):
    """Steps times runs per second of a process after its first step; `each`: of one step of the study."""
    process, crew = build(recipe, settings).process, Here()
    state = process.begin(0)
    process.advance(state, 0, 0, crew)
    begun = time.perf_counter()
    for k in range(1, 1 + steps):
        process.advance(state, k, 0, crew)
    return {"per_s": steps * each / (time.perf_counter() - begun)}


def main():
    """Measure, and print the result."""
    part, *more = sys.argv[1:]
    if part == "bandits":
        found = stepped(POLICIES[more[0]], {"runs": 1000, "block": 200, "means": more[1]}, 5, 200 * 1000)
    elif part == "q_learning":
        found = stepped("q_frozenlake", {"runs": 1000, "block": 100, "env": "FrozenLake8x8-v1"}, 5, 100 * 1000)
    else:
        mdp, times = problem("FrozenLake8x8-v1", 0.99, None, 0).mdp, []
        for _ in range(5):
            begun = time.perf_counter()
            solved = value_iteration(mdp, 1e-10)
            times.append(time.perf_counter() - begun)
        found = {"per_s": 1 / float(np.median(times)), "start": float(solved.values[0])}
    print("\n" + json.dumps(found))


main()
