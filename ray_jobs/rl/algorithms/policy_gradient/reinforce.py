"""REINFORCE, with a learned baseline as an option.

Source: Williams 1992, doi:10.1007/BF00992696, section 6; Sutton & Barto 2018, Reinforcement Learning, sections 13.3 and 13.4.
Differs: one step by the mean over many episodes' steps; gamma^t does not weigh the step at time t, so that states count as often as
they are met; Adam in place of plain ascent; a time limit ends an episode, and nothing is bootstrapped.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor

from ray_jobs.recipe.ranges import Count, NotNegative, Positive, Share, Threshold, Whole
from ray_jobs.rl.contract import Act, Fresh, Log, Optimizers, Steps, World
from ray_jobs.rl.maths.policy_losses import policy_gradient
from ray_jobs.rl.maths.returns import accumulate
from ray_jobs.rl.maths.value_losses import squared
from ray_jobs.rl.networks.agents import ActorCritic
from ray_jobs.rl.optim.step import adam, gradient_step


@dataclass(frozen=True)
class REINFORCE:
    """Log pi of each step times all that was earned from there to the episode's end."""

    horizon: Count = 128
    """Steps of each environment that an update learns from."""
    tail: Whole = 384
    """Steps played after those for the sake of their returns, and not learned from. Where no episode is longer, each return is whole;
    a longer one is cut there. Which steps count must not hang on how they end: episodes that the data finish are the short ones."""
    baseline: bool = True
    """Subtract V(s), fitted to the returns; else nothing, and V is not learned."""
    lr: Positive = 1e-2
    """Adam's step size, at the start; it falls linearly to 0."""
    gamma: Share = 0.99
    """Discount."""
    value_weight: NotNegative = 0.5
    """Weight of the value loss."""
    max_norm: Threshold = 1.0
    """Largest norm of a gradient."""
    width: Count = 64
    """Units in each of two hidden layers."""

    @property
    def experience(self) -> Fresh:
        return Fresh(self.horizon + self.tail)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> ActorCritic:
        return ActorCritic(obs, action, width=self.width)

    def optimizers(self, agent: ActorCritic) -> Optimizers:
        return {"all": adam(agent, self.lr)}

    def act(self, agent: ActorCritic, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        return Act(agent.act(obs, explore=explore, rng=rng)[0], {})

    def update(self, agent: ActorCritic, optimizers: Optimizers, data: Steps, world: World) -> Log:
        optimizers["all"].lr = self.lr * (1 - world.progress)
        n = self.horizon
        earned = accumulate(data.reward, self.gamma * ~data.boundary)[:n]
        out, value = agent(data.obs[:n])
        logp, error = agent.policy.log_prob(out, data.action[:n]), squared(value, earned).mean()
        policy = policy_gradient(logp, earned - value if self.baseline else earned).mean()
        loss = policy + self.value_weight * error if self.baseline else policy
        gradient_step(loss, optimizers["all"], world, self.max_norm)
        entropy = agent.policy.entropy(out.detach()).mean()
        return {"policy_loss": policy.detach(), "value_loss": error.detach(), "entropy": entropy.detach()}
