"""Deep deterministic policy gradient (DDPG).

Source: Lillicrap et al. 2016, arXiv:1509.02971, algorithm 1.
Differs: explores by independent normal noise, as Fujimoto et al. 2018 (arXiv:1802.09477) do and find no worse than the paper's correlated
one; no batch normalisation and no weight decay; both hidden layers have `width` units, and the critic sees the action from the first on.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor

from ray_jobs.recipe.ranges import Count, NotNegative, Part, Positive, Share, Whole
from ray_jobs.rl.contract import Act, Log, Optimizers, Replay, Transitions, World
from ray_jobs.rl.maths.policy_losses import deterministic
from ray_jobs.rl.maths.value_losses import squared
from ray_jobs.rl.networks.agents import ActorCritics
from ray_jobs.rl.optim.step import adam, gradient_step


@dataclass(frozen=True)
class DDPG:
    """One step of the critic, one of the actor up the critic's slope, and one of their slow copies per replayed batch."""

    buffer_size: Count = 1_000_000
    """Transitions kept."""
    batch_size: Count = 64
    """Transitions of one update."""
    learning_starts: Whole = 1000
    """Steps before the first update; their actions are drawn from all of the Box."""
    train_every: Count = 4
    """Steps between rounds of updates."""
    updates_per_train: Count = 1
    """Updates in a round."""
    gamma: Share = 0.99
    """Discount."""
    actor_lr: Positive = 1e-4
    """Adam's step size, of the actor."""
    critic_lr: Positive = 1e-3
    """Adam's step size, of the critic."""
    tau: Part = 0.001
    """Share of the way that the slow copies go to the networks in each update."""
    exploration_noise: NotNegative = 0.1
    """Deviation of exploring actions, in halves of their range."""
    width: Count = 64
    """Units in each of two hidden layers."""

    @property
    def experience(self) -> Replay:
        return Replay(self.buffer_size, self.batch_size, self.learning_starts, self.train_every, self.updates_per_train)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> ActorCritics:
        return ActorCritics(obs, action, width=self.width)

    def optimizers(self, agent: ActorCritics) -> Optimizers:
        return {"actor": adam(agent.actor, self.actor_lr), "critic": adam(agent.critics, self.critic_lr)}

    def act(self, agent: ActorCritics, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        return Act(agent.actor.act(obs, self.exploration_noise, explore=explore, rng=rng), {})

    def update(self, agent: ActorCritics, optimizers: Optimizers, data: Transitions, world: World) -> Log:
        agent.actor.started.fill_(1.0)
        (q,) = agent.critics(data.obs, data.action)
        critic_loss = squared(q, self.target(agent, data)).mean()
        gradient_step(critic_loss, optimizers["critic"], world)
        (q_of_actor,) = agent.critics(data.obs, agent.actor(data.obs), frozen=True)
        gradient_step(deterministic(q_of_actor).mean(), optimizers["actor"], world)
        agent.update_targets(self.tau)
        return {"td_loss": critic_loss.detach(), "q": q.detach().mean()}

    @torch.no_grad()
    def target(self, agent: ActorCritics, data: Transitions) -> Tensor:
        """r + discount * Q'(s', mu'(s')), [N]."""
        (after,) = agent.slow_critics(data.next_obs, agent.slow_actor(data.next_obs))
        return torch.addcmul(data.reward, data.discount, after)
