"""Twin delayed deterministic policy gradient (TD3).

Source: Fujimoto et al. 2018, arXiv:1802.09477, algorithm 1.
Differs: both hidden layers have `width` units; noise is given in halves of the action's range, so that it fits any Box.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor

from ray_jobs.recipe.ranges import Count, NotNegative, Part, Positive, Share, Whole
from ray_jobs.rl.contract import Act, Log, Optimizers, Replay, Transitions, World
from ray_jobs.rl.maths.policy_losses import deterministic
from ray_jobs.rl.maths.value_losses import smoothed, squared, twin_target
from ray_jobs.rl.networks.agents import ActorCritics
from ray_jobs.rl.optim.step import adam, gradient_step


@dataclass(frozen=True)
class TD3:
    """One step of both critics per replayed batch, towards the lesser of two targets; an actor's step every few of them."""

    buffer_size: Count = 1_000_000
    """Transitions kept."""
    batch_size: Count = 256
    """Transitions of one update."""
    learning_starts: Whole = 1000
    """Steps before the first update; their actions are drawn from all of the Box."""
    train_every: Count = 4
    """Steps between rounds of updates."""
    updates_per_train: Count = 1
    """Updates in a round."""
    gamma: Share = 0.99
    """Discount."""
    actor_lr: Positive = 3e-4
    """Adam's step size, of the actor."""
    critic_lr: Positive = 3e-4
    """Adam's step size, of the critics."""
    tau: Part = 0.005
    """Share of the way that the slow copies go to the networks, whenever the actor is updated."""
    delay: Count = 2
    """Updates of the critics for one of the actor and of the slow copies."""
    exploration_noise: NotNegative = 0.1
    """Deviation of exploring actions, in halves of their range."""
    smoothing: NotNegative = 0.2
    """Deviation of the noise on the slow actor's actions in a target, in halves of their range."""
    smoothing_clip: NotNegative = 0.5
    """The most that this noise may be."""
    width: Count = 64
    """Units in each of two hidden layers."""

    @property
    def experience(self) -> Replay:
        return Replay(self.buffer_size, self.batch_size, self.learning_starts, self.train_every, self.updates_per_train)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> ActorCritics:
        return ActorCritics(obs, action, width=self.width, critics=2)

    def optimizers(self, agent: ActorCritics) -> Optimizers:
        return {"actor": adam(agent.actor, self.actor_lr), "critics": adam(agent.critics, self.critic_lr)}

    def act(self, agent: ActorCritics, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        return Act(agent.actor.act(obs, self.exploration_noise, explore=explore, rng=rng), {})

    def update(self, agent: ActorCritics, optimizers: Optimizers, data: Transitions, world: World) -> Log:
        agent.actor.started.fill_(1.0)
        target, q = self.target(agent, data, world.rng), agent.critics(data.obs, data.action)
        critic_loss = squared(q, target).mean(1).sum()
        gradient_step(critic_loss, optimizers["critics"], world)
        if optimizers["critics"].steps % self.delay == 0:
            q1 = agent.critics(data.obs, agent.actor(data.obs), frozen=True, first=1)
            gradient_step(deterministic(q1).mean(), optimizers["actor"], world)
            agent.update_targets(self.tau)
        return {"td_loss": critic_loss.detach(), "q": q.detach().mean()}

    @torch.no_grad()
    def target(self, agent: ActorCritics, data: Transitions, rng: torch.Generator) -> Tensor:
        """r + discount * min_i Q'_i(s', mu'(s') + clipped noise), [N]."""
        squash = agent.slow_actor.squash
        half, action = squash.reach.view(squash.shape), agent.slow_actor(data.next_obs)
        action = smoothed(action, self.smoothing * half, self.smoothing_clip * half, squash.low, squash.high, rng)
        return twin_target(data.reward, data.discount, agent.slow_critics(data.next_obs, action))
