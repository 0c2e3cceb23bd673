"""Deterministic policy gradient with a compatible critic: off-policy COPDAC-Q.

Source: Silver et al. 2014, Deterministic policy gradient algorithms, proceedings.mlr.press/v32/silver14, section 4.3.
Differs: the actor may be a network, in whose weights the critic's advantage is linear; V is a network, and targets are of its slow copy
(Lillicrap et al. 2016, arXiv:1509.02971); steps are replayed in batches, and taken by Adam, the actor's from when the critic has started.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor, nn

from ray_jobs.recipe.ranges import Count, NotNegative, Part, Positive, Share, Whole
from ray_jobs.rl.contract import Act, Log, Optimizers, Replay, Transitions, World
from ray_jobs.rl.maths.curvature import flat
from ray_jobs.rl.networks.agents import Deterministic, rows
from ray_jobs.rl.networks.critics import polyak
from ray_jobs.rl.networks.nets import ReLUMLP, image, mlp, orthogonal
from ray_jobs.rl.optim.step import adam, gradient_step


class Value(nn.Module):
    """V [N] of obs [N, *O]."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.net = ReLUMLP([inputs, width, width, 1])

    def forward(self, obs: Tensor) -> Tensor:
        return self.net(rows(obs, obs.dim() - 1)).squeeze(-1)


class Compatible(nn.Module):
    """Q(s, a) = V(s) + (a - mu(s))' J(s) w, with J the derivatives of mu(s) [A] by the actor's P parameters.

    Source: theorem 3 and what follows it.
    """

    def __init__(self, inputs: int, width: int, parameters: int) -> None:
        super().__init__()
        self.value = Value(inputs, width)
        self.w = nn.Parameter(torch.zeros(parameters))


class DPGAgent(nn.Module):
    """The actor, and the critic that is compatible with it."""

    def __init__(self, actor: nn.Module, inputs: int, width: int) -> None:
        super().__init__()
        self.actor = actor
        self.critic = Compatible(inputs, width, sum(p.numel() for p in actor.parameters()))
        self.slow = copy.deepcopy(self.critic.value).requires_grad_(False)

    @property
    def acting(self) -> nn.Module:
        """The part that chooses actions, which alone is sent to runners."""
        return self.actor


def linearised(out: Tensor, parameters: Sequence[Tensor], w: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """With J the derivatives of out [N, A] by the parameters: J w [N, A], and x [N, A] -> the sum of J' x over rows, [P]."""

    def pull(x: Tensor, *, create_graph: bool = False) -> Tensor:
        return flat(torch.autograd.grad(out, parameters, x, retain_graph=True, create_graph=create_graph))

    at = torch.zeros_like(out, requires_grad=True)
    (pushed,) = torch.autograd.grad(pull(at, create_graph=True), at, w, retain_graph=True)
    return pushed, pull


@dataclass(frozen=True)
class DPG:
    """For each batch, one step of Q-learning of the compatible critic, and one of the actor up that critic's slope.

    With phi(s, a) = J(s)' (a - mu(s)), delta = r + discount V(s') - Q(s, a) moves V by delta dV and w by delta phi; theta by J' J w.
    """

    buffer_size: Count = 10_000
    """Transitions kept."""
    batch_size: Count = 128
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
    """Adam's step size, of the actor, at the start."""
    critic_lr: Positive = 1e-3
    """Adam's step size, of V and w, at the start."""
    anneal: bool = False
    """Let both fall linearly to 0 over the training: the last policy then wavers less."""
    tau: Part = 0.005
    """Share of the way that V's slow copy, of which targets are made, goes to V in each update; at 1 there is no difference."""
    patience: Whole = 500
    """Updates of the critic before the actor's first: Adam's steps are as long for a slope that is not yet known."""
    exploration_noise: NotNegative = 0.3
    """Deviation of the behaviour's actions around the actor's, in halves of their range."""
    actor_width: Whole = 32
    """Units in each of the actor's two hidden layers; 0 has none: mu is linear, up to the tanh that keeps it within the Box."""
    width: Count = 64
    """Units in each of V's two hidden layers."""

    not_together = "its compatible critic needs derivatives of the actor's derivatives"

    @property
    def experience(self) -> Replay:
        return Replay(self.buffer_size, self.batch_size, self.learning_starts, self.train_every, self.updates_per_train)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> DPGAgent:
        if image(obs):
            raise ValueError(f"DPG learns from vectors, and observations of shape {obs.shape} are images.")
        actor = Deterministic(obs, action, width=self.actor_width, net=mlp)  # J w differentiates it twice
        orthogonal(actor.net[-1], 0.01)  # actions are small at first
        actor.started.fill_(1.0)  # exploration is around the actor from the first step on
        return DPGAgent(actor, math.prod(obs.shape), self.width)

    def optimizers(self, agent: DPGAgent) -> Optimizers:
        return {"actor": adam(agent.actor, self.actor_lr), "critic": adam(agent.critic, self.critic_lr)}

    def act(self, agent: DPGAgent, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        return Act(agent.actor.act(obs, self.exploration_noise, explore=explore, rng=rng), {})

    def update(self, agent: DPGAgent, optimizers: Optimizers, data: Transitions, world: World) -> Log:
        scale = 1 - world.progress if self.anneal else 1.0
        optimizers["actor"].lr = self.actor_lr * scale
        optimizers["critic"].lr = self.critic_lr * scale
        critic, mu = agent.critic, agent.actor(data.obs).flatten(1)
        slope, pull = linearised(mu, list(agent.actor.parameters()), critic.w.detach())
        away, value = data.action.flatten(1) - mu.detach(), critic.value(data.obs)
        with torch.no_grad():
            q = value + (away * slope).sum(-1)
            delta = torch.addcmul(data.reward, data.discount, agent.slow(data.next_obs)) - q
            features = pull(delta[:, None] * away) / len(delta)
        gradient_step(-(delta * value).mean() - critic.w @ features, optimizers["critic"], world)
        if optimizers["critic"].steps > self.patience:
            gradient_step(-(mu * slope).sum(-1).mean(), optimizers["actor"], world)
        polyak(agent.slow.parameters(), critic.value.parameters(), self.tau)
        return {"td_loss": delta.square().mean(), "q": q.mean(), "slope": slope.square().mean().sqrt()}
