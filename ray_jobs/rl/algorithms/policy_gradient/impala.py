"""IMPALA: importance-weighted actors and learner, with V-trace.

Source: Espeholt et al. 2018, arXiv:1802.01561, section 4.
Differs: feed-forward networks, of their own for policy and value unless they share layers (those of images do); Adam in place
of RMSProp; losses are means over steps, not sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor

from ray_jobs.recipe.ranges import Count, NotNegative, Positive, Share, Threshold
from ray_jobs.rl.batches import successors
from ray_jobs.rl.contract import Act, Log, Optimizers, Steps, Stream, World
from ray_jobs.rl.maths.policy_losses import policy_gradient
from ray_jobs.rl.maths.returns import vtrace
from ray_jobs.rl.maths.value_losses import squared
from ray_jobs.rl.networks.agents import ActorCritic
from ray_jobs.rl.optim.step import adam, gradient_step


@dataclass(frozen=True)
class IMPALA:
    """One gradient step per fragment, corrected for the policy having moved since it was played."""

    horizon: Count = 20
    """Steps of each environment in a fragment."""
    gamma: Share = 0.99
    """Discount."""
    lr: Positive = 2e-3
    """Adam's step size, at the start; it falls linearly to 0."""
    rho_max: Threshold = 1.0
    """Truncation of the importance weight of a temporal difference: which policy the value is of."""
    c_max: Threshold = 1.0
    """Truncation of the weights along the trace: how far corrections reach."""
    value_weight: NotNegative = 0.5
    """Weight of the value loss."""
    entropy_weight: NotNegative = 0.01
    """Weight of the entropy bonus."""
    max_norm: Threshold = 1.0
    """Largest norm of a gradient."""
    width: Count = 64
    """Units in each of two hidden layers."""
    shared: bool = False
    """Let policy and value have their hidden layers in common."""

    @property
    def experience(self) -> Stream:
        return Stream(self.horizon)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> ActorCritic:
        return ActorCritic(obs, action, width=self.width, shared=self.shared)

    def optimizers(self, agent: ActorCritic) -> Optimizers:
        return {"all": adam(agent, self.lr)}

    def act(self, agent: ActorCritic, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        action, out = agent.act(obs, explore=explore, rng=rng)
        return Act(action, {"logp": agent.policy.log_prob(out, action)})

    def update(self, agent: ActorCritic, optimizers: Optimizers, data: Steps, world: World) -> Log:
        optimizers["all"].lr = self.lr * (1 - world.progress)
        out, v = agent(data.obs)
        out, value = out[:-1], v[:-1]
        logp, entropy = agent.policy.log_prob(out, data.action), agent.policy.entropy(out).mean()
        ratio, excess, advantage = self.corrected(agent, data, v.detach(), logp.detach())
        policy = policy_gradient(logp, advantage).mean()
        error = squared(value, value.detach() + excess).mean()
        loss = policy + self.value_weight * error - self.entropy_weight * entropy
        gradient_step(loss, optimizers["all"], world, self.max_norm)
        log = {"policy_loss": policy, "value_loss": error, "entropy": entropy, "ratio": ratio.mean()}
        return {k: x.detach() for k, x in log.items()}

    @torch.no_grad()
    def corrected(self, agent: ActorCritic, data: Steps, v: Tensor, logp: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probability ratios, V-trace's corrections of the value, and advantages, [T, B], from V [T+1, B] and log pi [T, B] of today."""
        after, ratio = successors(v, agent.value, data), (logp - data.extras["logp"]).exp()
        masks = data.discount(self.gamma), data.carry
        return ratio, *vtrace(data.reward, v[:-1], after, *masks, ratio, rho_max=self.rho_max, c_max=self.c_max)
