"""Pulls per second of a bandit of mabwiser that learns from each reward before the next pull."""

import json
import random
import sys
import time

from mabwiser.mab import MAB, LearningPolicy


def main():
    """Measure, and print the result."""
    kinds = {
        "epsilon-greedy": LearningPolicy.EpsilonGreedy(epsilon=0.1),
        "UCB1": LearningPolicy.UCB1(alpha=1.0),
        "Thompson": LearningPolicy.ThompsonSampling(),
    }
    means = [float(m) for m in sys.argv[3].split(",")]
    bandit = MAB(list(range(len(means))), kinds[sys.argv[2]])
    bandit.fit(list(range(len(means))), [int(random.random() < m) for m in means])
    begun, pulls = time.perf_counter(), 10_000
    for _ in range(pulls):
        arm = bandit.predict()
        bandit.partial_fit([arm], [int(random.random() < means[arm])])
    print("\n" + json.dumps({"per_s": pulls / (time.perf_counter() - begun)}))


main()
