"""ACER with continuous actions: stochastic dueling networks.

Source: Wang et al. 2017, arXiv:1611.01224, section 5, eq. 13 and 14, algorithm 3.
Differs: as many replayed updates for every new one, not a Poisson number; networks of their own for mean, V and A;
Adam in place of RMSProp; losses are means, not sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from ray_jobs.recipe.ranges import Count, Decay, NotNegative, Positive, Share, Threshold, Whole
from ray_jobs.rl.batches import successors
from ray_jobs.rl.contract import Act, Log, Optimizers, Replay, Steps, World
from ray_jobs.rl.maths.policy_losses import policy_gradient, trust_region
from ray_jobs.rl.maths.returns import retrace
from ray_jobs.rl.maths.value_losses import squared
from ray_jobs.rl.networks.agents import Averaged, rows
from ray_jobs.rl.networks.nets import TanhMLP, image
from ray_jobs.rl.networks.policies import Gaussian
from ray_jobs.rl.optim.step import adam, gradient_step


class GaussianActor(nn.Module):
    """The mean [*, n] of a Gaussian whose deviation is fixed: `std` times half the Box's width where that is finite, else `std`."""

    def __init__(self, obs: gym.spaces.Box, action: gym.spaces.Box, width: int, std: float) -> None:
        super().__init__()
        self.event, self.policy = len(obs.shape), Gaussian(action.shape, box=action)
        half = torch.from_numpy(np.asarray(action.high / 2 - action.low / 2, np.float32).ravel())
        self.policy.log_std.data.copy_((std * half.where(half.isfinite(), 1.0) / self.policy.units.reach).log())
        self.policy.log_std.requires_grad_(False)
        self.net = TanhMLP([math.prod(obs.shape), width, width, self.policy.outputs], last=0.01)

    def forward(self, obs: Tensor) -> Tensor:
        return self.net(rows(obs, self.event))


class Dueling(nn.Module):
    """The actor, V, and A, which tells actions apart."""

    def __init__(self, obs: gym.spaces.Box, action: gym.spaces.Box, width: int, std: float) -> None:
        super().__init__()
        self.actor, n = GaussianActor(obs, action, width, std), math.prod(obs.shape)
        self.v, self.a = TanhMLP([n, width, width, 1]), TanhMLP([n + self.actor.policy.outputs, width, width, 1])

    def value(self, obs: Tensor) -> Tensor:
        """V [*] of observations [*, *O]."""
        return self.v(rows(obs, self.actor.event)).squeeze(-1)

    def advantage(self, obs: Tensor, action: Tensor) -> Tensor:
        """A [k, *] of observations [*, *O] and k actions [k, *, n] in each."""
        obs = rows(obs, self.actor.event).expand(len(action), *action.shape[1:-1], -1)
        return self.a(torch.cat([obs, self.actor.policy.units.inverse(action)], -1)).squeeze(-1)


class Judged(NamedTuple):
    """What the networks say of what was done and of another action; [T, B] each, differentiable where not said otherwise."""

    value: Tensor
    q: Tensor
    """Of what was done: equation 13."""
    other_q: Tensor
    after: Tensor
    """V of the true successors, without gradient."""


@dataclass(frozen=True)
class ACERContinuous:
    """One update by the newest steps and a few by replayed ones, whose policies may be long gone."""

    horizon: Count = 20
    """Steps in a sequence."""
    batch_size: Count = 16
    """Sequences of a replayed update."""
    train_every: Count = 320
    """Steps of all environments together between rounds of updates; at least `horizon` of each."""
    replays: Whole = 4
    """Replayed updates in a round."""
    buffer_size: Count = 50_000
    """Steps kept."""
    learning_starts: Whole = 1000
    """Steps before the first update."""
    gamma: Share = 0.99
    """Discount."""
    lr: Positive = 1e-3
    """Adam's step size, at the start; it falls linearly to 0."""
    c: Threshold = 5.0
    """Where importance weights are cut."""
    delta: Threshold = 1.0
    """How far, to first order, an update may move the policy away from the average one, in nats for a step size of 1."""
    decay: Decay = 0.995
    """Of the average policy, per update."""
    drawn: Count = 5
    """Actions whose mean advantage is taken off."""
    std: Positive = 0.3
    """Deviation of actions: a share of half their Box's width, or in their own units where that is infinite."""
    value_weight: NotNegative = 0.5
    """Weight of the critics' losses."""
    max_norm: Threshold = 1.0
    """Largest norm of a gradient."""
    width: Count = 64
    """Units in each of two hidden layers."""

    @property
    def experience(self) -> Replay:
        return Replay(
            self.buffer_size,
            self.batch_size,
            self.learning_starts,
            self.train_every,
            self.replays,
            length=self.horizon,
            newest=True,
        )

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> Averaged:
        if not isinstance(action, gym.spaces.Box):
            raise ValueError(f"ACERContinuous needs a Box of actions, and this is {action}.")
        if image(obs):
            raise ValueError(f"ACERContinuous learns from vectors, and observations of shape {obs.shape} are images.")
        return Averaged(Dueling(obs, action, self.width, self.std), "actor")

    def optimizers(self, agent: Averaged) -> Optimizers:
        return {"all": adam(agent.now, self.lr)}

    def act(self, agent: Averaged, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        policy, mean = agent.now.actor.policy, agent.now.actor(obs)
        return Act(policy.sample(mean, rng) if explore else policy.mode(mean), {"mean": mean})

    def update(self, agent: Averaged, optimizers: Optimizers, data: Steps, world: World) -> Log:
        optimizers["all"].lr = self.lr * (1 - world.progress)
        policy, mean = agent.now.actor.policy, agent.now.actor(data.obs[:-1])
        done = data.action.reshape(mean.shape)
        others = policy.sample(mean.detach().expand(1 + self.drawn, *mean.shape), world.rng).reshape(-1, *mean.shape)
        seen = self.judge(agent.now, data, torch.cat([done[None], others]))
        ratio, other_ratio = self.ratios(agent, data, mean.detach(), torch.stack([done, others[0]]))
        n = policy.outputs
        retraced, corrected = (self.target(data, seen, x) for x in (ratio ** (1 / n), torch.ones_like(ratio)))
        weight = ratio.clamp(max=self.c) * (corrected - seen.value)
        other_weight = (1 - self.c / other_ratio).clamp(min=0) * (seen.other_q - seen.value)
        step = self.step(agent, data, mean.detach(), (done, others[0]), (weight, other_weight))
        error = 0.5 * squared(seen.q, retraced)
        shift = ratio.clamp(max=1) * (retraced - seen.q)
        baseline = 0.5 * squared(seen.value, seen.value + shift)  # equation 14
        loss = -(step * mean).sum(-1) + self.value_weight * (error + baseline)
        gradient_step(loss.mean(), optimizers["all"], world, self.max_norm)
        agent.update_average(self.decay)
        log = {"value_loss": error, "baseline_loss": baseline, "ratio": ratio, "q": seen.q}
        return {k: x.detach().mean() for k, x in log.items()}

    def judge(self, now: Dueling, data: Steps, actions: Tensor) -> Judged:
        """From what was done, another action and those of the baseline [2 + drawn, T, B, n]."""
        v, a = now.value(data.obs), now.advantage(data.obs[:-1], actions)
        with torch.no_grad():
            after = successors(v, now.value, data)
        base = v[:-1] - a[2:].mean(0)
        return Judged(v[:-1], base + a[0], base + a[1], after)

    @torch.no_grad()
    def ratios(self, agent: Averaged, data: Steps, mean: Tensor, actions: Tensor) -> Tensor:
        """pi / mu [k, T, B] of actions [k, T, B, n]."""
        policy = agent.now.actor.policy
        now, then = (x.expand(actions.shape) for x in (mean, data.extras["mean"]))
        return (policy.log_prob(now, actions) - policy.log_prob(then, actions)).exp()

    @torch.no_grad()
    def target(self, data: Steps, seen: Judged, trace: Tensor) -> Tensor:
        """Retrace's for Q of what was done [T, B]; with traces of 1 it is off-policy correction without truncation."""
        masks = data.discount(self.gamma), data.carry
        return retrace(data.reward, seen.q, seen.after, *masks, trace)

    def step(
        self, agent: Averaged, data: Steps, mean: Tensor, actions: tuple[Tensor, ...], weights: tuple[Tensor, ...]
    ) -> Tensor:
        """Where the mean is to go [T, B, n]: up the gradient of the weighted log-probabilities, within the trust region."""
        policy, mean = agent.now.actor.policy, mean.requires_grad_()
        losses = [policy_gradient(policy.log_prob(mean, a), w) for a, w in zip(actions, weights, strict=True)]
        (g,) = torch.autograd.grad(-sum(losses).sum(), mean)
        with torch.no_grad():
            average = agent.average(data.obs[:-1])
        (k,) = torch.autograd.grad(policy.kl(average, mean).sum(), mean)
        return trust_region(g, k, self.delta)
