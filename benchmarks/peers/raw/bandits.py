"""Pulls per second of a bandit as a plain class for each run, one pull at a time, as tutorials have it."""

import json
import math
import random
import sys
import time


class Arms:
    """Rewards of 0 or 1."""

    def __init__(self, means):
        self.means = means

    def pull(self, arm):
        """A reward."""
        return 1.0 if random.random() < self.means[arm] else 0.0


class Solver:
    """Estimates of each arm, and the regret."""

    def __init__(self, arms):
        self.arms, self.counts, self.estimates = arms, [0] * len(arms.means), [1.0] * len(arms.means)
        self.t, self.regret, self.actions = 0, 0.0, []

    def run(self, pulls):
        """Pull so often."""
        for _ in range(pulls):
            self.t += 1
            arm = self.choose()
            reward = self.arms.pull(arm)
            self.counts[arm] += 1
            self.update(arm, reward)
            self.regret += max(self.arms.means) - self.arms.means[arm]
            self.actions.append(arm)

    def update(self, arm, reward):
        """The mean of what was seen."""
        self.estimates[arm] += (reward - self.estimates[arm]) / (self.counts[arm] + 1)


class EpsilonGreedy(Solver):
    """A random arm with probability 0.1."""

    def choose(self):
        """The arm."""
        if random.random() < 0.1:
            return random.randrange(len(self.counts))
        return max(range(len(self.counts)), key=lambda a: self.estimates[a])


class UCB1(Solver):
    """The largest upper confidence bound."""

    def choose(self):
        """The arm."""
        return max(
            range(len(self.counts)),
            key=lambda a: self.estimates[a] + math.sqrt(2 * math.log(self.t) / (1 + self.counts[a])),
        )


class Thompson(Solver):
    """The largest draw of the posteriors."""

    def __init__(self, arms):
        super().__init__(arms)
        self.won, self.lost = [1] * len(self.counts), [1] * len(self.counts)

    def choose(self):
        """The arm."""
        return max(range(len(self.counts)), key=lambda a: random.betavariate(self.won[a], self.lost[a]))

    def update(self, arm, reward):
        """The posterior."""
        self.won[arm] += reward
        self.lost[arm] += 1 - reward


def main():
    """Measure, and print the result."""
    kinds = {"epsilon-greedy": EpsilonGreedy, "UCB1": UCB1, "Thompson": Thompson}
    arms = Arms([float(m) for m in sys.argv[3].split(",")])
    begun, runs, pulls = time.perf_counter(), 40, 2000
    for _ in range(runs):
        kinds[sys.argv[2]](arms).run(pulls)
    print("\n" + json.dumps({"per_s": runs * pulls / (time.perf_counter() - begun)}))


main()
