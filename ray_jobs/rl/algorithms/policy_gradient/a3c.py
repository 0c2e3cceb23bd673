"""Asynchronous advantage actor-critic.

Source: Mnih et al. 2016, arXiv:1602.01783, section 4 and algorithm S3.
Differs: a runner plays several environments, and its gradient is of the mean over their steps, not the sum; gradients are
applied one after the other, without the race of threads; policy and value have networks of their own unless they share layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor

from ray_jobs.recipe.ranges import Count, NotNegative, Positive, Share, Threshold
from ray_jobs.rl.batches import bootstrapped_returns
from ray_jobs.rl.contract import Act, Gradient, Gradients, Log, Optimizers, Steps, World
from ray_jobs.rl.maths.policy_losses import policy_gradient
from ray_jobs.rl.maths.value_losses import squared
from ray_jobs.rl.networks.agents import ActorCritic
from ray_jobs.rl.optim.step import adam, apply_gradient, rmsprop


@dataclass(frozen=True)
class A3C:
    """Each runner differentiates its own few steps by weights that may be a few updates old; all gradients go to one optimiser."""

    horizon: Count = 5
    """Steps of each environment for one gradient, t_max: returns sum as many rewards, at most."""
    lr: Positive = 7e-4
    """Step size, at the start; it falls linearly to 0."""
    gamma: Share = 0.99
    """Discount."""
    value_weight: NotNegative = 0.5
    """Weight of the value loss."""
    entropy_weight: NotNegative = 0.01
    """Weight of the entropy bonus."""
    max_norm: Threshold = 0.5
    """Largest norm of a runner's gradient."""
    use_rmsprop: bool = True
    """RMSProp with statistics that all runners' gradients share, as in the paper; else Adam, likewise."""
    eps: Positive = 3e-3
    """Added by RMSProp to the root of the mean square: about the root of the 1e-5 that is customary beneath it. It keeps steps small
    where gradients vanish, as when the pole stands."""
    width: Count = 64
    """Units in each of two hidden layers."""
    shared: bool = False
    """Let policy and value share their hidden layers."""

    @property
    def experience(self) -> Gradients:
        return Gradients(self.horizon)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> ActorCritic:
        return ActorCritic(obs, action, width=self.width, shared=self.shared)

    def optimizers(self, agent: ActorCritic) -> Optimizers:
        return {"all": rmsprop(agent, self.lr, eps=self.eps) if self.use_rmsprop else adam(agent, self.lr, eps=1e-5)}

    def act(self, agent: ActorCritic, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        return Act(agent.act(obs, explore=explore, rng=rng)[0], {})

    def loss(self, agent: ActorCritic, data: Steps) -> tuple[Tensor, Log]:
        out, v = agent(data.obs)
        out, value, returns = out[:-1], v[:-1], bootstrapped_returns(v, agent.value, data, self.gamma)
        policy_loss = policy_gradient(agent.policy.log_prob(out, data.action), returns - value).mean()
        value_loss, entropy = squared(value, returns).mean(), agent.policy.entropy(out).mean()
        loss = policy_loss + self.value_weight * value_loss - self.entropy_weight * entropy
        return loss, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}

    def update(self, agent: ActorCritic, optimizers: Optimizers, data: Gradient, world: World) -> Log:
        optimizer = optimizers["all"]
        optimizer.lr = self.lr * (1 - world.progress)
        optimizer.gradient.copy_(data.flat)
        apply_gradient(optimizer, world, self.max_norm)
        return dict(data.log)
