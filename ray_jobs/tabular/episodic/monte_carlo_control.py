"""Monte Carlo control: exploring starts, epsilon-soft policies, and off-policy control; many runs at once.

System: Monte Carlo control with exploring starts; Monte Carlo control with epsilon-soft policies; Off-policy Monte Carlo control
Source: Sutton & Barto 2018, sections 5.3 (exploring starts), 5.4 (epsilon-soft policies) and 5.7 (off-policy, with weighted
importance sampling).
Differs: a run improves its policy after a batch of episodes, which are played at once (`--batch 1` is the book's rule); actions that are
best alike share.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ray_jobs.recipe.process import Crew, State, generator
from ray_jobs.recipe.ranges import Count, Finite, Share
from ray_jobs.tabular.controlled import soft, softened
from ray_jobs.tabular.draws import Simulator
from ray_jobs.tabular.dynamic_programming import policy_iteration
from ray_jobs.tabular.episodic.episodes import Ints, Step, drawn, first_visits, play, returns
from ray_jobs.tabular.mdp import CERTAIN, MDP, Array, ends_for_sure, uniform_policy
from ray_jobs.tabular.problems import Problem, problem, value_of

SHARD = 2_000
"""Episodes that are played together."""


@dataclass(frozen=True)
class MonteCarloControl:
    """What the three methods share."""

    env: str = "ray_jobs.tabular.examples.blackjack:blackjack"
    """Gymnasium's id of an environment with a table, a file of arrays (.npz), or 'package.module:function' that returns an MDP."""
    env_options: Mapping[str, Any] | None = None
    """Keyword arguments of the environment."""
    gamma: Share = 1.0
    """Discount per step."""
    epsilon: Share = 0.1
    """Probability of a random action in the policy that plays."""
    initial: Finite = 0.0
    """Q of what has not been tried."""
    runs: Count = 10
    """Runs at once."""
    batch: Count = 1_000
    """Episodes of each run between two improvements, a step of the study."""

    unit = "batch"

    def check(self, mdp: MDP) -> None:
        """Refuse a process that the method cannot learn.

        Raises:
            ValueError: some of its episodes may never end.
        """
        if not ends_for_sure(mdp, uniform_policy(mdp)):
            raise ValueError(f"Episodes of {self.env} need not end: Monte Carlo methods learn from whole episodes.")

    def optimum(self, mdp: MDP) -> MDP:
        """The process whose optimal policy is looked for."""
        return mdp

    def learned(self, q: Array) -> Array:
        """The learned policy [..., S, A] for values q."""
        return soft(q, 0.0)

    def plays(self, q: Array) -> Array:
        """The policy [..., S, A] that plays."""
        return soft(q, self.epsilon)

    def starts(self, simulator: Simulator, policies: Array, which: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """The first state and action [N] of each episode, played by the policy `which` [N] of policies [P, S, A]."""
        s = simulator.begin(rng, len(which))
        return s, drawn(policies, which, s, rng)

    def counted(self, steps: list[Step], which: Ints, q: Array) -> Iterator[tuple[Step, Array, Array]]:
        """The steps, the last one first, with their returns [K] and the weights [K] of these; here 1 at first visits of a state and action.

        Args:
            steps: of N episodes.
            which: number [N] of the table with which each episode was played.
            q: the tables [P, S, A].
        """
        actions = q.shape[2]
        first = first_visits(((x.rows, x.s * actions + x.a) for x in steps), len(which), q.shape[1] * actions)
        for (step, g), counts in zip(returns(steps, self.gamma), reversed(first), strict=True):
            yield step, g, counts.astype(np.float64)

    def begin(self, seed: int) -> State:
        """No returns yet, and the value of the best policy.

        Raises:
            ValueError: the environment cannot be learned.
        """
        mdp = self.problem(seed).mdp
        self.check(mdp)
        table = np.zeros((self.runs, *mdp.reward.shape))
        known = {
            "seed": seed,
            "best": float(mdp.start @ policy_iteration(self.optimum(mdp)).values),
            "regrets": np.zeros(0),
        }
        return {"sums": table, "weights": table.copy()} | known

    def advance(self, state: State, step: int, seed: int, crew: Crew) -> dict[str, float]:
        """One batch of episodes of every run."""
        size = max(SHARD // self.batch, 1)
        parts = [(k, *(state[x][k : k + size] for x in ("sums", "weights"))) for k in range(0, self.runs, size)]
        sums, weights = zip(*crew.map(functools.partial(batch, self, seed, step), parts), strict=True)
        state["sums"], state["weights"] = np.concatenate(sums), np.concatenate(weights)
        first = values(state["sums"][:1], state["weights"][:1], self.initial)[0]
        regret = state["best"] - value_of(self.problem(seed).mdp, self.learned(first))
        state["regrets"] = np.append(state["regrets"], regret)
        return {"regret": float(regret)}

    def result(self, state: State, seed: int, crew: Crew) -> dict[str, float]:
        """regret: how far the exact value of the learned policies, a mean over runs, is below that of the best policy.

        start_value and best_start_value: these two values.
        """
        mdp = self.problem(seed).mdp
        learned = self.learned(values(state["sums"], state["weights"], self.initial))
        value = float(np.mean([value_of(mdp, policy) for policy in learned]))
        return {"regret": state["best"] - value, "start_value": value, "best_start_value": state["best"]}

    def pictures(self, state: State, folder: Path) -> None:
        """regret.png, and value.png with the learned policy of the mean of all runs."""
        from ray_jobs.tabular import pictures

        title, of = f"{type(self).__name__} on {self.env.rpartition(':')[2]}", self.problem(state["seed"])
        pictures.regret(state["regrets"], self.batch, title, folder / "regret.png")
        q = values(state["sums"].sum(0), state["weights"].sum(0), self.initial)
        exact = policy_iteration(self.optimum(of.mdp)).values
        pictures.value(of, (self.learned(q) * q).sum(-1), exact, soft(q, 0.0), title, folder / "value.png")

    def problem(self, seed: int) -> Problem:
        """What is learned; each worker builds it once and keeps it."""
        return problem(self.env, self.gamma, self.env_options, seed)


@dataclass(frozen=True)
class ExploringStarts(MonteCarloControl):
    """Every episode starts with a random state and action, and follows the greedy policy from there."""

    def check(self, mdp: MDP) -> None:
        """Refuse a process in which some policy never ends an episode."""
        if can_go_on(mdp):
            raise ValueError(
                f"Some policies never end an episode of {self.env}, and exploring starts may play one: take an "
                "epsilon-soft policy (EpsilonSoft)."
            )

    def plays(self, q: Array) -> Array:
        """The greedy policy."""
        return soft(q, 0.0)

    def starts(self, simulator: Simulator, policies: Array, which: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Any state and action with the same probability."""
        _, states, actions = policies.shape
        return rng.integers(states, size=len(which)), rng.integers(actions, size=len(which))


@dataclass(frozen=True)
class EpsilonSoft(MonteCarloControl):
    """The epsilon-greedy policy plays and is learned; in the limit it is the best policy that explores."""

    def optimum(self, mdp: MDP) -> MDP:
        """The process in which an action is random with probability epsilon."""
        return softened(mdp, self.epsilon)

    def learned(self, q: Array) -> Array:
        """The epsilon-greedy policy."""
        return soft(q, self.epsilon)


@dataclass(frozen=True)
class OffPolicy(MonteCarloControl):
    """The epsilon-greedy policy plays, the greedy one is learned: from the tails of episodes in which all actions are greedy."""

    def counted(self, steps: list[Step], which: Ints, q: Array) -> Iterator[tuple[Step, Array, Array]]:
        """Every visit, with the importance ratio of the actions that follow."""
        ratio, ratios = np.ones(len(which)), self.learned(q) / np.maximum(self.plays(q), 1e-300)
        for step, g in returns(steps, self.gamma):
            yield step, g, ratio[step.rows]
            ratio[step.rows] *= ratios[which[step.rows], step.s, step.a]


def can_go_on(mdp: MDP) -> bool:
    """Whether some policy never ends an episode from some state: whether there are states that some actions never lead out of."""
    inside = np.ones(len(mdp.start), bool)
    while True:
        stays = (mdp.transition[:, :, inside].sum(-1) >= 1 - CERTAIN).any(-1) & inside
        if (stays == inside).all():
            return bool(inside.any())
        inside = stays


def values(sums: Array, weights: Array, initial: float) -> Array:
    """Q [..., S, A]: the averages of returns, `initial` where there is no weight."""
    return np.where(weights > 0, sums / np.where(weights > 0, weights, 1.0), initial)


def batch(of: MonteCarloControl, seed: int, step: int, part: tuple[int, Array, Array]) -> tuple[Array, Array]:
    """The sums of weighted returns and of weights [R, S, A] of a shard's runs after one more batch of episodes each.

    Args:
        part: number of the shard's first run, and both sums.
    """
    first, sums, weights = part[0], part[1].copy(), part[2].copy()
    q, rng = values(sums, weights, of.initial), generator(seed, step, first)
    simulator, policies = Simulator.of(of.problem(seed).mdp), of.plays(q)
    which = np.repeat(np.arange(len(q)), of.batch)
    steps = play(simulator, policies, which, *of.starts(simulator, policies, which, rng), rng)
    for x, g, weight in of.counted(steps, which, q):
        at = (which[x.rows], x.s, x.a)
        np.add.at(sums, at, weight * g)
        np.add.at(weights, at, weight)
    return sums, weights
