"""Distributed distributional deterministic policy gradient (D4PG).

Source: Barth-Maron et al. 2018, arXiv:1804.08617, algorithm 1.
Differs: both hidden layers have `width` units, and the critic sees the action from the first on; importance weights are those of
Schaul et al. 2016 (arXiv:1511.05952), at most 1 and whole at the end only; actions before the first update are drawn from all of the Box.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor

from ray_jobs.recipe.ranges import Count, Finite, NotNegative, Positive, Share, Whole
from ray_jobs.rl.contract import Act, Log, Optimizers, Replay, Transitions, World
from ray_jobs.rl.maths.policy_losses import deterministic
from ray_jobs.rl.maths.value_losses import categorical, project
from ray_jobs.rl.networks.agents import ActorCritics
from ray_jobs.rl.optim.step import adam, gradient_step


@dataclass(frozen=True)
class D4PG:
    """A critic that tells the distribution of returns over several steps, and an actor that goes up the slope of its mean."""

    buffer_size: Count = 1_000_000
    """Transitions kept."""
    batch_size: Count = 256
    """Transitions of one update."""
    learning_starts: Whole = 1000
    """Steps before the first update."""
    train_every: Count = 4
    """Steps between rounds of updates."""
    updates_per_train: Count = 1
    """Updates in a round."""
    n_step: Count = 5
    """Steps whose rewards a target sums."""
    priority: NotNegative = 0.6
    """Exponent of the cross entropies in proportion to which transitions are drawn; 0 is uniform."""
    importance: Share = 0.4
    """Exponent of the importance weights that undo this, at the start; it rises to 1."""
    asynchronous: bool = True
    """Let runners play on while the learner learns."""
    gamma: Share = 0.99
    """Discount."""
    actor_lr: Positive = 1e-4
    """Adam's step size, of the actor."""
    critic_lr: Positive = 1e-4
    """Adam's step size, of the critic."""
    target_every: Count = 100
    """Updates between copies of the networks into those that targets are made of."""
    low: Finite = -150.0
    """The least return that the critic can tell."""
    high: Finite = 150.0
    """The largest."""
    atoms: Count = 51
    """Returns between them, at even distances, each of which gets a probability."""
    exploration_noise: NotNegative = 0.3
    """Deviation of exploring actions, in halves of their range."""
    width: Count = 64
    """Units in each of two hidden layers."""

    @property
    def experience(self) -> Replay:
        return Replay(
            self.buffer_size,
            self.batch_size,
            self.learning_starts,
            self.train_every,
            self.updates_per_train,
            n_step=self.n_step,
            priority=self.priority,
            importance=self.importance,
            asynchronous=self.asynchronous,
        )

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> ActorCritics:
        if self.atoms < 2 or self.low >= self.high:
            raise ValueError(
                f"D4PG needs 2 atoms or more, low below high, and has {self.atoms} of {self.low:g} to {self.high:g}."
            )
        return ActorCritics(obs, action, width=self.width, outputs=self.atoms)

    def optimizers(self, agent: ActorCritics) -> Optimizers:
        return {"actor": adam(agent.actor, self.actor_lr), "critic": adam(agent.critics, self.critic_lr)}

    def act(self, agent: ActorCritics, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        return Act(agent.actor.act(obs, self.exploration_noise, explore=explore, rng=rng), {})

    def update(self, agent: ActorCritics, optimizers: Optimizers, data: Transitions, world: World) -> Log:
        agent.actor.started.fill_(1.0)
        support = torch.linspace(self.low, self.high, self.atoms, device=data.reward.device)
        target, (logits,) = self.target(agent, data, support), agent.critics(data.obs, data.action)
        error = categorical(logits, target)
        loss = (data.weight * error).mean()
        gradient_step(loss, optimizers["critic"], world)
        (found,) = agent.critics(data.obs, agent.actor(data.obs), frozen=True)
        q = found.softmax(-1) @ support
        gradient_step(deterministic(q).mean(), optimizers["actor"], world)
        if optimizers["critic"].steps % self.target_every == 0:
            agent.update_targets(1.0)
        log = {"td_loss": loss.detach(), "q": q.detach().mean()}
        return log | ({"priority": error.detach()} if self.priority else {})

    @torch.no_grad()
    def target(self, agent: ActorCritics, data: Transitions, support: Tensor) -> Tensor:
        """The distribution of r + discount * Z'(s', mu'(s')) on the critic's atoms, [N, atoms]."""
        (after,) = agent.slow_critics(data.next_obs, agent.slow_actor(data.next_obs))
        return project(after.softmax(-1), data.reward, data.discount, support)
