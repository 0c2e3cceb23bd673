"""Multi-agent deterministic policy gradients: actors that see for themselves, critics that see everything.

Source: Lowe et al. 2017, arXiv:1706.02275, eq. 6, algorithm 1, section 4.3; Jang et al. 2017, arXiv:1611.01144 (Gumbel-softmax).
Differs: all agents learn from one minibatch at the same time, their gradients clipped by one norm; discrete actions are whole, with the
gradient straight through, where the authors' code plays soft ones; continuous ones get normal noise of a fixed size; a member of an
ensemble plays in columns of its own for good, not in episodes by chance. A world of one agent is allowed: then it is DDPG.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor, nn

from ray_jobs.envs.multi_agent import Padded, joint
from ray_jobs.recipe.ranges import Count, NotNegative, Part, Positive, Share, Threshold, Whole
from ray_jobs.rl.contract import Act, Log, Optimizers, Replay, Transitions, World
from ray_jobs.rl.maths.value_losses import squared
from ray_jobs.rl.networks.critics import Ensemble, polyak
from ray_jobs.rl.networks.policies import Squash, add_gumbel_noise, noisy
from ray_jobs.rl.optim.step import adam, gradient_step


def counts(sizes: Sequence[int]) -> Tensor:
    """[N, max(sizes)] bool: which entries of each agent's padded vector are its own."""
    return torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]


class DiscreteActions(nn.Module):
    """Discrete actions [B, N] of logits [B, N, A]."""

    def __init__(self, action: gym.spaces.MultiDiscrete, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.register_buffer("valid", counts(action.nvec.tolist()), persistent=False)

    def act(self, out: Tensor, explore: bool, rng: torch.Generator) -> Tensor:
        return self.logits(add_gumbel_noise(out, rng) if explore else out).argmax(-1)

    def logits(self, out: Tensor) -> Tensor:
        """The logits of actions that an agent does not have are so low that they are never drawn."""
        return out.masked_fill(~self.valid, -1e9)

    def draw(self, out: Tensor, rng: torch.Generator) -> Tensor:
        """One-hot actions drawn from the policy; their derivatives are the Gumbel-softmax's."""
        soft = self.logits(add_gumbel_noise(out, rng)).softmax(-1)
        return self.encode(soft.argmax(-1)) + soft - soft.detach()

    def encode(self, action: Tensor) -> Tensor:
        """The critics' input: one-hot [B, N, A]."""
        return nn.functional.one_hot(action.reshape(-1, len(self.valid)), self.valid.shape[1]).float()


class ContinuousActions(nn.Module):
    """Continuous actions [B, N, A] of network outputs [B, N, A], within their bounds by tanh.

    Raises:
        ValueError: as `Squash`.
    """

    def __init__(self, action: Padded, shape: Sequence[int], noise: float) -> None:
        super().__init__()
        self.squash, self.noise, self.shape = Squash(action), noise, tuple(shape)
        for name, x in (("low", action.low), ("high", action.high), ("valid", counts(action.sizes))):
            self.register_buffer(name, torch.as_tensor(x), persistent=False)

    def act(self, out: Tensor, explore: bool, rng: torch.Generator) -> Tensor:
        action = self.squash(out.flatten(1))
        return self.encode(noisy(action, self.noise, self.low, self.high, rng) if explore else action)

    def draw(self, out: Tensor, rng: torch.Generator) -> Tensor:
        return self.act(out, False, rng)

    def encode(self, action: Tensor) -> Tensor:
        """The critics' input: [B, N, A], 0 where an agent has fewer dimensions."""
        return action.reshape(-1, *self.valid.shape) * self.valid


class Actors(nn.Module):
    """N policies, each with members of its own; agent k's outputs depend on its own observation alone."""

    def __init__(self, obs: Padded, kind: DiscreteActions | ContinuousActions, width: int, members: int) -> None:
        super().__init__()
        self.kind, self.members, (self.n, inputs) = kind, members, obs.shape
        self.register_buffer("sees", counts(obs.sizes), persistent=False)
        self.net = Ensemble(members * self.n, [inputs, width, width, kind.valid.shape[1]])

    def rows(self, obs: Tensor) -> Tensor:
        """[B, *O] -> [B, N, L], 0 in the padding."""
        return obs.reshape(len(obs), *self.sees.shape) * self.sees

    def forward(self, obs: Tensor, member: Tensor | None) -> Tensor:
        """Outputs [B, N, A] for obs [B, N, L], by the members [B, N] that play; with None by the only ones."""
        out = self.net.each(obs.transpose(0, 1).repeat(self.members, 1, 1))
        if member is not None:
            k, b = torch.arange(self.n, device=obs.device), torch.arange(len(obs), device=obs.device)
            out = out.unflatten(0, (self.members, self.n))[member.t(), k[:, None], b]
        return out.transpose(0, 1)

    def member_of(self, obs: Tensor) -> Tensor | None:
        """The member of each agent that plays in each column [B, N], all combinations in turn; None where there is one."""
        each = self.members ** torch.arange(self.n, device=obs.device)
        digits = torch.arange(len(obs), device=obs.device)[:, None] // each % self.members
        return digits.cumsum(1) % self.members if self.members > 1 else None


class MultiAgentCritics(nn.Module):
    """Actors, for each of them a critic of all observations and actions, and slow copies."""

    def __init__(self, actor: Actors, width: int) -> None:
        super().__init__()
        inputs = actor.sees.numel() + actor.kind.valid.numel()
        self.actor, self.critic = actor, Ensemble(actor.n, [inputs, width, width, 1])
        self.slow_actor, self.slow_critic = (copy.deepcopy(x).requires_grad_(False) for x in (actor, self.critic))

    @property
    def acting(self) -> Actors:
        """The part that a runner needs."""
        return self.actor

    def q_of_own_actions(self, obs: Tensor, action: Tensor, mine: Tensor) -> Tensor:
        """Q_k [N, B] of the actions [B, N, A], but agent k's own is from `mine` [B, N, A]; no gradient reaches the critics."""
        own = torch.eye(self.actor.n, dtype=torch.bool, device=obs.device)[:, None, :, None]
        x = torch.cat([obs.expand(self.actor.n, *obs.shape).flatten(2), torch.where(own, mine, action).flatten(2)], -1)
        return self.critic.each(x, frozen=True).squeeze(-1)


@dataclass(frozen=True)
class MADDPG:
    """For each replayed batch: every agent's critic towards its Bellman target, then every actor up its own critic."""

    buffer_size: Count = 1_000_000
    """Steps kept."""
    batch_size: Count = 1024
    """Transitions of one update."""
    learning_starts: Whole = 1000
    """Steps before the first update."""
    train_every: Count = 100
    """Steps between rounds of updates."""
    updates_per_train: Count = 1
    """Updates in a round."""
    gamma: Share = 0.95
    """Discount."""
    actor_lr: Positive = 1e-2
    """Adam's step size, of the actors."""
    critic_lr: Positive = 1e-2
    """Adam's step size, of the critics."""
    tau: Part = 1e-2
    """Share by which the slow copies follow, each update."""
    logit_penalty: NotNegative = 1e-3
    """Weight of the mean square of the actors' numbers, which keeps choices open; as in the authors' code."""
    exploration_noise: NotNegative = 0.1
    """Deviation of exploration around continuous actions, in halves of their range."""
    max_norm: Threshold = 0.5
    """Largest norm of a gradient."""
    ensemble: Count = 1
    """Members of each agent's policy, which its opponents cannot learn by heart; a runner needs as many environments."""
    width: Count = 64
    """Units in each of two hidden layers."""

    @property
    def experience(self) -> Replay:
        return Replay(self.buffer_size, self.batch_size, self.learning_starts, self.train_every, self.updates_per_train)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> MultiAgentCritics:
        if self.ensemble < 1:
            raise ValueError(f"An ensemble of {self.ensemble} members cannot play: it must have 1 or more.")
        shape = action.shape
        if not isinstance(obs, Padded):
            obs, action = Padded([obs]), joint([action])
        discrete = isinstance(action, gym.spaces.MultiDiscrete)
        kind = DiscreteActions(action, shape) if discrete else ContinuousActions(action, shape, self.exploration_noise)
        return MultiAgentCritics(Actors(obs, kind, self.width, self.ensemble), self.width)

    def optimizers(self, agent: MultiAgentCritics) -> Optimizers:
        return {"actor": adam(agent.actor, self.actor_lr), "critic": adam(agent.critic, self.critic_lr)}

    def act(self, agent: MultiAgentCritics, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        actor, member = agent.actor, agent.actor.member_of(obs)
        action = actor.kind.act(actor(actor.rows(obs), member), explore, rng)
        return Act(action.reshape(len(obs), *actor.kind.shape), {} if member is None else {"member": member})

    def update(self, agent: MultiAgentCritics, optimizers: Optimizers, data: Transitions, world: World) -> Log:
        actor, kind, member = agent.actor, agent.actor.kind, data.extras.get("member")
        obs, after, action = actor.rows(data.obs), actor.rows(data.next_obs), kind.encode(data.action)
        with torch.no_grad():
            q = agent.slow_critic(after, kind.draw(agent.slow_actor(after, member), world.rng))
            target = data.reward.reshape(len(obs), actor.n).t() + data.discount * q
        error = squared(agent.critic(obs, action), target).mean(1).sum()
        gradient_step(error, optimizers["critic"], world, self.max_norm)
        out = actor(obs, member)
        worth = agent.q_of_own_actions(obs, action, kind.draw(out, world.rng)).mean(1).sum()
        gradient_step(self.logit_penalty * out.square().mean() - worth, optimizers["actor"], world, self.max_norm)
        polyak(agent.slow_actor.parameters(), actor.parameters(), self.tau)
        polyak(agent.slow_critic.parameters(), agent.critic.parameters(), self.tau)
        return {"critic_loss": error.detach(), "q": worth.detach() / actor.n, "choice": out.detach().square().mean()}
