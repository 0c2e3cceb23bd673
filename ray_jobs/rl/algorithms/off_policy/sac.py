"""Soft actor-critic, with a fixed or an automatic temperature.

Source: Haarnoja et al. 2018, arXiv:1801.01290, and arXiv:1812.05905, algorithm 1, eq. 5 to 9 and 18; with discrete actions
Christodoulou 2019, arXiv:1910.07207, eq. 10 to 12.
Differs: the first steps are the untrained policy's, not uniform; the temperature moves by its logarithm, at the actor's step size.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor

from ray_jobs.recipe.ranges import Count, Finite, Part, Positive, Share, Whole
from ray_jobs.rl.contract import Act, Log, Optimizers, Replay, Transitions, World
from ray_jobs.rl.maths.policy_losses import soft, temperature
from ray_jobs.rl.maths.value_losses import expected, soft_target, squared
from ray_jobs.rl.networks.critics import polyak
from ray_jobs.rl.networks.soft import SoftAgent
from ray_jobs.rl.optim.step import adam, gradient_step


@dataclass(frozen=True)
class SAC:
    """One step each for critics, policy and temperature per replayed batch."""

    buffer_size: Count = 100_000
    """Transitions kept."""
    batch_size: Count = 256
    """Transitions of one update."""
    learning_starts: Whole = 1000
    """Steps before the first update."""
    train_every: Count = 4
    """Steps between rounds of updates."""
    updates_per_train: Count = 1
    """Updates in a round."""
    gamma: Share = 0.99
    """Discount."""
    actor_lr: Positive = 3e-4
    """Adam's step size for the policy and the temperature."""
    critic_lr: Positive = 3e-4
    """Adam's step size for the critics."""
    tau: Part = 0.005
    """Share of the way that the slow critics go to the others in each update."""
    automatic: bool = True
    """Let the temperature seek `target_entropy`."""
    alpha: Positive = 1.0
    """The temperature: the weight of a nat of entropy beside rewards; where automatic, at the start."""
    target_entropy: Finite | None = None
    """In nats, of actions scaled to +-1. None is minus their dimension or, of n discrete actions, 0.98 log n."""
    width: Count = 64
    """Units in each of two hidden layers."""

    @property
    def experience(self) -> Replay:
        return Replay(self.buffer_size, self.batch_size, self.learning_starts, self.train_every, self.updates_per_train)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> SoftAgent:
        if self.alpha <= 0:
            raise ValueError(f"SAC's alpha must be above 0, and this is {self.alpha}.")
        return SoftAgent(obs, action, self.width, self.alpha)

    def optimizers(self, agent: SoftAgent) -> Optimizers:
        return {"actor": adam(agent.actor, self.actor_lr), "critics": adam(agent.critics, self.critic_lr)}

    def act(self, agent: SoftAgent, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        policy, out = agent.actor.policy, agent.actor(obs)
        return Act(policy.sample(out, rng) if explore else policy.mode(out), {})

    def update(self, agent: SoftAgent, optimizers: Optimizers, data: Transitions, world: World) -> Log:
        alpha = agent.actor.log_alpha.detach().exp()
        target = self.target(agent, data, alpha, world.rng)
        q = agent.q_taken(data.obs, data.action)
        critic_loss = 0.5 * squared(q, target).sum(0).mean()  # equation 5, of both critics
        gradient_step(critic_loss, optimizers["critics"], world)

        q_now, logp = agent.evaluate(agent.critics, data.obs, world.rng)
        policy_loss = expected(soft(logp, q_now.amin(0), alpha), logp).mean()  # equation 7
        entropy = -expected(logp, logp).mean()
        loss = policy_loss
        if self.automatic:
            loss = loss + temperature(agent.actor.log_alpha, -entropy, agent.target_entropy(self.target_entropy))
        gradient_step(loss, optimizers["actor"], world)
        polyak(agent.target.parameters(), agent.critics.parameters(), self.tau)
        log = {
            "critic_loss": critic_loss,
            "policy_loss": policy_loss,
            "entropy": entropy,
            "alpha": alpha,
            "q": q.mean(),
        }
        return {k: x.detach() for k, x in log.items()}

    @torch.no_grad()
    def target(self, agent: SoftAgent, data: Transitions, alpha: Tensor, rng: torch.Generator) -> Tensor:
        """r + discount * the soft value of the next state, by the slow critics: equations 3 and 5, [N]."""
        next_q, next_logp = agent.evaluate(agent.target, data.next_obs, rng)
        return soft_target(data.reward, data.discount, next_q, next_logp, alpha)
