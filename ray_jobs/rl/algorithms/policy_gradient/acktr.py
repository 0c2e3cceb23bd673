"""ACKTR: actor-critic with Kronecker-factored trust regions.

Source: Wu et al. 2017, arXiv:1708.05144, sections 3.1 and 3.2.
Differs: generalised advantages (the paper's at lambda = 1); policy and value have networks of their own. The critic's
trust region is in units of its errors' mean square in the batch, so that it knows the returns' scale. No momentum; inversions
are not asynchronous.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor, nn

from ray_jobs.recipe.ranges import Count, Decay, NotNegative, Positive, Share
from ray_jobs.rl.batches import standardise, successors
from ray_jobs.rl.contract import Act, Fresh, Log, Optimizers, Steps, World
from ray_jobs.rl.maths.policy_losses import policy_gradient
from ray_jobs.rl.maths.returns import gae
from ray_jobs.rl.maths.value_losses import squared
from ray_jobs.rl.networks.agents import ActorCritic
from ray_jobs.rl.networks.nets import plain_tanh
from ray_jobs.rl.networks.policies import normal
from ray_jobs.rl.optim.kfac import KFAC
from ray_jobs.rl.optim.step import gradient_step


@dataclass(frozen=True)
class ACKTR:
    """One natural step of the policy and one Gauss-Newton step of the value per batch, both by K-FAC."""

    horizon: Count = 20
    """Steps of each environment between updates."""
    gamma: Share = 0.99
    """Discount."""
    lam: Share = 1.0
    """GAE's lambda."""
    lr: Positive = 0.25
    """K-FAC's step size of the policy at most, at the start."""
    max_kl: Positive = 1e-3
    """How far a step may move the policy, in nats, by K-FAC's model: running factors lag, and steps may go several times as far."""
    value_lr: Positive = 0.25
    """K-FAC's step size of the value at most, at the start."""
    value_max_kl: Positive = 1e-2
    """How far a step may move the value: half the mean square of its move over that of its errors, to second order."""
    damping: Positive = 1e-2
    """Added to the Fisher matrices, factored."""
    decay: Decay = 0.99
    """Of the running factors, at most."""
    invert_every: Count = 10
    """Updates from one inversion of the factors to the next."""
    anneal: bool = True
    """Let the step sizes fall linearly to 0 over the training."""
    entropy_weight: NotNegative = 0.01
    """Weight of the entropy bonus."""
    width: Count = 64
    """Units in each of two hidden layers."""

    not_together = "K-FAC inverts each seed's own factors"

    @property
    def experience(self) -> Fresh:
        return Fresh(self.horizon)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> ActorCritic:
        return ActorCritic(obs, action, width=self.width, separate=True, net=plain_tanh)

    def optimizers(self, agent: ActorCritic) -> Optimizers:
        rest = {"damping": self.damping, "decay": self.decay, "every": self.invert_every}
        policy = nn.ModuleList([agent.actor, agent.policy])
        return {
            "policy": KFAC(policy, self.lr, self.max_kl, **rest),
            "value": KFAC(agent.critic, self.value_lr, self.value_max_kl, **rest),
        }

    def act(self, agent: ActorCritic, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        return Act(agent.act(obs, explore=explore, rng=rng)[0], {})

    def update(self, agent: ActorCritic, optimizers: Optimizers, data: Steps, world: World) -> Log:
        scale = 1 - world.progress if self.anneal else 1.0
        for name, lr in (("policy", self.lr), ("value", self.value_lr)):
            optimizers[name].param_groups[0]["lr"] = lr * scale
        obs = data.obs[:-1]
        with optimizers["value"].recording():
            value = agent.value(obs)
        advantage = self.advantage(agent, value.detach(), data)
        error = self.assess(value, value.detach() + advantage, optimizers["value"], world)
        with optimizers["policy"].recording():
            out = agent.logits(obs)
        optimizers["policy"].observe(self.drawn(agent, out, world), world.mean)
        entropy = agent.policy.entropy(out).mean()
        policy = policy_gradient(agent.policy.log_prob(out, data.action), standardise(advantage, world)).mean()
        gradient_step(policy - self.entropy_weight * entropy, optimizers["policy"], world)
        log = {"policy_loss": policy, "value_loss": error, "entropy": entropy}
        return {k: x.detach() for k, x in log.items()}

    @torch.no_grad()
    def advantage(self, agent: ActorCritic, value: Tensor, data: Steps) -> Tensor:
        """[T, B], from V [T, B] of the steps' own observations."""
        after = successors(torch.cat([value, agent.value(data.obs[-1:])]), agent.value, data)
        return gae(data.reward, value, after, data.discount(self.gamma), data.carry, self.lam)

    def drawn(self, agent: ActorCritic, out: Tensor, world: World) -> Tensor:
        """log pi of actions drawn again: the Fisher matrix is of the model, not of what was done with which luck."""
        with torch.no_grad():
            action = agent.policy.sample(out, world.rng)
        return agent.policy.log_prob(out, action)

    def assess(self, value: Tensor, target: Tensor, optimizer: KFAC, world: World) -> Tensor:
        """One step of the value, the mean of a normal of deviation 1, towards its target; the mean squared error before it."""
        error = squared(value, target).mean()
        optimizer.param_groups[0]["max_kl"] = self.value_max_kl * float(world.mean(error.detach()))
        seen = value.detach() + normal(value.detach(), world.rng)
        optimizer.observe(-0.5 * (value - seen).square(), world.mean)
        gradient_step(0.5 * error, optimizer, world)
        return error
