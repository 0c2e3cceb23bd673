"""Evolution strategies: weights go up the slope of the return of perturbed weights, known from whole episodes alone.

Source: Salimans et al. 2017, arXiv:1703.03864, algorithm 2 (workers share returns, and rebuild the noise and the weights themselves) and
section 2.1 (mirrored pairs, ranks, weight decay).
Differs: noise is a function of (seed, generation, pair), without a table of common random numbers; equal returns have equal ranks; both of
a pair meet the same seeds of the environment; no virtual batch norm, and no noise on actions; a worker waits for the whole generation.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ray_jobs.envs.steps import VectorEnv
from ray_jobs.envs.vector import vector
from ray_jobs.errors import UsageError
from ray_jobs.evolution.episodes import Played, Seen, play
from ray_jobs.evolution.members import Rule, Scalars, Weights, held
from ray_jobs.evolution.networks import Network, mirrored, outputs, sizes_for
from ray_jobs.evolution.noise import Array
from ray_jobs.recipe.process import Crew, State
from ray_jobs.recipe.ranges import Count, NotNegative, Positive, Whole

CHECKED = 10
"""Generations between two comparisons of all workers' weights."""
CENTRE = -1
"""The shard that plays the weights themselves."""
FINAL = 2**40
"""In place of a generation, in the seeds of the episodes that measure the result."""


class Answer(NamedTuple):
    """What a worker says about a shard."""

    returns: Array
    """[pairs of the shard, 2]; of the centre [1, 1]."""
    steps: int
    """Environment steps."""
    seen: Array
    """Of the centre, where observations are normalised: count, sums and squares; else empty."""
    fingerprint: int
    """Of the worker's weights, every CHECKED generations; else 0."""


@dataclass(frozen=True)
class EvolutionStrategy:
    """A perceptron that is trained by the returns of its perturbations."""

    env: str = "CartPole-v1"
    """Gymnasium's id, or 'package.module:function' that makes an environment."""
    pairs: Count = 64
    """Directions of a generation, each of which is played both ways."""
    sigma: Positive = 0.1
    """Deviation of a perturbation."""
    lr: Positive = 0.05
    """Adam's step size."""
    weight_decay: NotNegative = 0.005
    """Weight of the squared weights; without it they outgrow the perturbations."""
    width: Count = 32
    """Units in each hidden layer."""
    depth: Whole = 2
    """Hidden layers."""
    episodes: Count = 1
    """Episodes whose mean return is a member's."""
    limit: Whole = 0
    """Steps after which an episode is cut; 0: only the environment cuts."""
    rank: Whole = 0
    """Rank of the perturbation of a weight matrix, which makes wide networks much faster; 0: independent normals."""
    normalize: bool = False
    """Shift and scale observations by the mean and deviation in the episodes of the unperturbed weights."""
    ranks: bool = True
    """Learn from the ranks of returns, not from returns."""
    shard: Count = 16
    """Pairs that a worker plays at a time."""
    eval_episodes: Count = 100
    """Episodes of the result."""

    unit = "generation"

    @functools.cached_property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the perceptron's layers."""
        env = environments(self.env, 1)
        return tuple(sizes_for(env.obs_space, env.action_space, [self.width] * self.depth))

    def rule(self, seed: int) -> Rule:
        """How returns change the weights."""
        return Rule(self.sizes, seed, self.sigma, self.lr, self.weight_decay, self.rank, self.ranks)

    def begin(self, seed: int) -> State:
        """The initial weights, and no returns yet.

        Raises:
            ValueError: the environment's observations or actions do not fit; one sentence.
        """
        weights = Weights.begin(self.rule(seed), self.normalize)
        observed = 1 + 2 * self.sizes[0] if self.normalize else 0
        return {
            "theta": weights.theta,
            "mean": weights.mean,
            "square": weights.square,
            "returns": np.zeros((0, self.pairs, 2)),
            "seen": np.zeros((0, observed)),
            "centre": np.zeros(0),
            "env_steps": 0,
        }

    def advance(self, state: State, step: int, seed: int, crew: Crew) -> dict[str, float]:
        """One generation: all members' episodes, then one step of the weights. Workers get the last generation's returns alone.

        Raises:
            UsageError: workers have computed other weights than this process, for example on another kind of processor.
        """
        shards = [CENTRE, *range(0, self.pairs, self.shard)]
        answers = self.answers(state, step, seed, crew, shards)
        rule, weights = self.rule(seed), self.weights(state, step)
        if any(a.fingerprint not in (0, weights.fingerprint) for a in answers):
            raise UsageError(
                f"After {step} generations workers have other weights than their driver: use one kind of processor."
            )
        (centre, *played) = answers
        returns = np.concatenate([a.returns for a in played])
        weights.advance(rule, returns, centre.seen)
        state["theta"], state["mean"], state["square"] = weights.theta, weights.mean, weights.square
        for name, new in {"returns": returns, "seen": centre.seen, "centre": centre.returns[0, 0]}.items():
            state[name] = np.concatenate([state[name], np.asarray(new)[None]])
        state["env_steps"] += sum(a.steps for a in answers)
        return {
            "episode_return": float(centre.returns[0, 0]),
            "member_return": float(returns.mean()),
            "best_member": float(returns.max()),
            "env_steps": float(state["env_steps"]),
            "bytes_per_generation": float(state["returns"][-1].nbytes + state["seen"][-1].nbytes),
        }

    def answers(self, state: State, step: int, seed: int, crew: Crew, shards: Sequence[int]) -> list[Answer]:
        """Answers to all shards; those of workers that missed generations are asked for again, with all returns so far."""
        found: list[Answer | None] = [None] * len(shards)
        for first in (max(step - 1, 0), 0):
            scalars = Scalars(first, state["returns"][first:step], state["seen"][first:step])
            missing = [i for i, answer in enumerate(found) if answer is None]
            work = functools.partial(played, self, seed, step, scalars)
            for i, answer in zip(missing, crew.map(work, [shards[i] for i in missing]), strict=True):
                found[i] = answer
            if all(answer is not None for answer in found):
                break
        return [answer for answer in found if answer is not None]

    def weights(self, state: State, step: int) -> Weights:
        """The weights of a state, as copies."""
        theta, mean, square = (state[name].copy() for name in ("theta", "mean", "square"))
        seen = Seen.of(state["seen"].sum(0)) if self.normalize else None
        return Weights(step, theta, mean, square, seen)

    def result(self, state: State, seed: int, crew: Crew) -> dict[str, float]:
        """The mean return of the unperturbed weights over `eval_episodes` fresh episodes, its standard error, and the steps of training."""
        weights = self.weights(state, len(state["returns"]))
        many = np.broadcast_to(weights.theta, (self.eval_episodes, weights.theta.size))
        network = functools.partial(outputs, many, sizes=self.sizes)
        env, seeds = environments(self.env, self.eval_episodes), seeds_of(seed, FINAL, 0, self.eval_episodes)
        found = play(network, env, seeds, 1, self.limit, weights.seen)
        error = found.returns.std(ddof=1) / len(found.returns) ** 0.5 if len(found.returns) > 1 else 0.0
        return {
            "episode_return": float(found.returns.mean()),
            "standard_error": float(error),
            "env_steps": float(state["env_steps"]),
        }

    def pictures(self, state: State, folder: Path) -> None:
        """returns.png: the return of the weights by generation, and the spread of their perturbations."""
        from ray_jobs.evolution import pictures

        pictures.returns(state["centre"], state["returns"], folder / "returns.png")


def played(of: EvolutionStrategy, seed: int, step: int, scalars: Scalars, first: int) -> Answer | None:
    """A worker's answer to a shard: the returns of the pairs from `first` on; None where it missed generations that the scalars lack."""
    rule = of.rule(seed)
    weights = held((of, seed), rule, of.normalize, scalars, step)
    if weights is None:
        return None
    pairs = range(first, min(first + of.shard, of.pairs))
    checked = weights.fingerprint if step % CHECKED == 0 else 0
    if first == CENTRE:
        alone = functools.partial(outputs, weights.theta[None], sizes=of.sizes)
        centre = rollout(of, alone, seeds_of(seed, step, of.pairs, of.episodes), weights.seen)
        seen = centre.seen.flat if of.normalize else np.zeros(0)
        return Answer(centre.returns[:, None], centre.steps, seen, checked)
    seeds = [s for pair in pairs for s in seeds_of(seed, step, pair, of.episodes)]
    networks = mirrored(weights.theta, seed, step, pairs, of.sizes, of.sigma, of.rank)
    up, down = (rollout(of, network, seeds, weights.seen) for network in networks)
    return Answer(np.stack([up.returns, down.returns], 1), up.steps + down.steps, np.zeros(0), checked)


def rollout(of: EvolutionStrategy, network: Network, seeds: Sequence[int], seen: Seen | None) -> Played:
    """Episodes of a network's members, with a seed for each episode."""
    return play(network, environments(of.env, len(seeds)), seeds, of.episodes, of.limit, seen)


@functools.lru_cache(maxsize=4)
def environments(name: str, rows: int) -> VectorEnv:
    """So many copies of an environment, which this process keeps: making MuJoCo's takes longer than an episode.

    Raises:
        ValueError: there is no such environment, or its package is missing.
    """
    return vector(name, rows, {})


def seeds_of(seed: int, step: int, pair: int, n: int) -> list[int]:
    """Seeds of the environment for n episodes of a pair."""
    drawn = np.random.SeedSequence([seed % 2**63, step, pair, 1]).generate_state(n)
    return [int(s) for s in drawn]
