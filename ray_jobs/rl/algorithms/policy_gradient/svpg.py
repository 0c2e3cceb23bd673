"""Stein variational policy gradient: several policies that climb together and keep apart.

Source: Liu et al. 2017, arXiv:1704.02399, eq. 10 and algorithm 1, with A2C's gradients.
Differs: generalised advantages, standardised over all particles; gradients are means over steps, not sums over an episode, and
temperatures are in those units. The prior over parameters is flat. Adam takes the steps. Greedy actions are the best particle's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor, nn

from ray_jobs.errors import UsageError
from ray_jobs.recipe.ranges import Count, Positive, Share
from ray_jobs.rl.batches import standardise
from ray_jobs.rl.contract import Act, Fresh, Log, Optimizers, Steps, World
from ray_jobs.rl.maths import stein
from ray_jobs.rl.maths.policy_losses import policy_gradient
from ray_jobs.rl.maths.returns import gae
from ray_jobs.rl.maths.value_losses import squared
from ray_jobs.rl.networks.agents import rows
from ray_jobs.rl.networks.nets import ConvStack, Stack, brightest, image
from ray_jobs.rl.networks.policies import Gaussian, policy_for
from ray_jobs.rl.optim.step import adam, gradient_step


class Particles(nn.Module):
    """n policies, with the recent reward and the recent number of ended episodes of each, which tell the best one."""

    def __init__(self, n: int, obs: gym.spaces.Box, action: gym.Space, width: int) -> None:
        super().__init__()
        self.policy = policy_for(action)
        self.net = stack(n, obs, width, self.policy.outputs, 0.01)
        if isinstance(self.policy, Gaussian):
            self.policy.log_std = nn.Parameter(self.policy.log_std.detach().repeat(n, 1, 1))
        self.register_buffer("earned", torch.zeros(n))
        self.register_buffer("ended", torch.zeros(n))

    def best(self) -> Tensor:
        """Which particle has the highest mean return, by renewal: what it earned over how often it ended."""
        return (self.earned / self.ended.clamp(min=1e-3)).argmax()


class SVPGAgent(nn.Module):
    """n policies, each with a critic of its own."""

    def __init__(self, n: int, obs: gym.spaces.Box, action: gym.Space, width: int) -> None:
        super().__init__()
        self.acting, self.critic = Particles(n, obs, action, width), stack(n, obs, width, 1, 1.0)


def stack(n: int, obs: gym.spaces.Box, width: int, outputs: int, last: float) -> Stack | ConvStack:
    """n networks of observations."""
    if image(obs):
        return ConvStack(n, obs.shape, outputs, top=brightest(obs), last=last)
    return Stack(n, [math.prod(obs.shape), width, width, outputs], last=last)


def encode(obs: Tensor, lead: int, net: Stack | ConvStack) -> Tensor:
    """The networks' input for observations [*, *O] of `lead` leading dimensions: flattened, unless they are images."""
    return obs if isinstance(net, ConvStack) else rows(obs, obs.dim() - lead)


@dataclass(frozen=True)
class SVPG:
    """One Stein step of all particles per batch; environment i of a runner is played by particle i modulo their number."""

    particles: Count = 4
    """Policies; they must share the environments of each learner evenly."""
    temperature: Positive = 0.1
    """Weight of keeping apart against climbing."""
    horizon: Count = 32
    """Steps of each environment between updates."""
    gamma: Share = 0.99
    """Discount."""
    lam: Share = 0.95
    """GAE's lambda."""
    lr: Positive = 3e-3
    """Adam's step size, of particles and critics, at the start; it falls linearly to 0."""
    memory: Share = 0.95
    """What is left, an update later, of a particle's score."""
    width: Count = 32
    """Units in each of two hidden layers."""

    not_together = "it checks how often each particle plays"

    @property
    def experience(self) -> Fresh:
        return Fresh(self.horizon)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> SVPGAgent:
        return SVPGAgent(self.particles, obs, action, self.width)

    def optimizers(self, agent: SVPGAgent) -> Optimizers:
        return {"policy": adam(agent.acting, self.lr), "value": adam(agent.critic, self.lr)}

    def act(self, agent: SVPGAgent, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        team, x, n = agent.acting, encode(obs, 1, agent.acting.net), self.particles
        if not explore:
            return Act(team.policy.mode(team.net(x[None], team.best())[0]), {})
        spare = x.new_zeros(-len(x) % n, *x.shape[1:])
        out = team.net(torch.cat([x, spare]).unflatten(0, (-1, n)).transpose(0, 1))
        action = team.policy.sample(out, rng).transpose(0, 1).flatten(0, 1)
        return Act(action[: len(x)], {"particle": torch.arange(len(x), device=x.device) % n})

    def update(self, agent: SVPGAgent, optimizers: Optimizers, data: Steps, world: World) -> Log:
        for optimizer in optimizers.values():
            optimizer.lr = self.lr * (1 - world.progress)
        order = self.columns(data.extras["particle"][0])
        obs, action, advantage, target = self.prepare(agent, data, order)
        self.remember(agent.acting, data, order, world)
        policy = self.losses(agent.acting, obs, action, standardise(advantage, world))
        parameters = list(agent.acting.parameters())
        gradient = world.mean(joined(torch.autograd.grad(policy.sum(), parameters)))
        theta = joined([p.detach() for p in parameters])
        ascent = stein.direction(theta, -gradient, self.temperature)
        for p, part in zip(parameters, ascent.split([p[0].numel() for p in parameters], 1), strict=True):
            p.grad.copy_(-part.view_as(p))
        optimizers["policy"].step()
        error = squared(agent.critic(obs).squeeze(-1), target).mean(1)
        gradient_step(error.sum(), optimizers["value"], world)
        distance = torch.pdist(theta).sum() / max(1, math.comb(self.particles, 2))
        return {"policy_loss": policy.detach().mean(), "value_loss": error.detach().mean(), "distance": distance}

    @torch.no_grad()
    def prepare(self, agent: SVPGAgent, data: Steps, order: Tensor) -> list[Tensor]:
        """Observations, actions, advantages and the values' targets of each particle's N steps, [n, N, ...]."""
        following = data.obs[1:].clone()
        following[data.truncated] = data.last_obs
        obs, after = (self.grouped(encode(x, 2, agent.critic), order) for x in (data.obs[:-1], following))
        reward, terminated, boundary = (self.grouped(x, order) for x in (data.reward, data.terminated, data.boundary))
        value, later = (agent.critic(x.flatten(1, 2)).view_as(reward) for x in (obs, after))
        timed = (x.transpose(0, 1) for x in (reward, value, later, self.gamma * ~terminated, 1.0 * ~boundary))
        advantage = gae(*timed, self.lam).transpose(0, 1)
        return [x.flatten(1, 2) for x in (obs, self.grouped(data.action, order), advantage, advantage + value)]

    def columns(self, particle: Tensor) -> Tensor:
        """The columns [B] of the data, sorted by the particle that played them.

        Raises:
            UsageError: some play more than others.
        """
        shares = particle.bincount(minlength=self.particles)
        if (shares != shares[0]).any():
            raise UsageError(
                f"SVPG's {self.particles} particles must play equally many environments of every runner: "
                f"give envs that {self.particles} times the number of runners divides."
            )
        return particle.argsort(stable=True)

    def grouped(self, x: Tensor, order: Tensor) -> Tensor:
        """[T, B, ...] -> [n, T, B / n, ...]"""
        return x[:, order].unflatten(1, (self.particles, -1)).transpose(0, 1)

    def losses(self, team: Particles, obs: Tensor, action: Tensor, advantage: Tensor) -> Tensor:
        """The policy gradient's integrand of each particle, averaged over its steps, [n]."""
        return policy_gradient(team.policy.log_prob(team.net(obs), action), advantage).mean(1)

    def remember(self, team: Particles, data: Steps, order: Tensor, world: World) -> None:
        """Add the rewards and the ended episodes to the scores."""
        for score, x in ((team.earned, data.reward), (team.ended, 1.0 * data.boundary)):
            score.mul_(self.memory).add_(world.mean(self.grouped(x, order).sum((1, 2))))


def joined(parts: Sequence[Tensor]) -> Tensor:
    """[n, ...] each -> [n, P]: a row for each particle."""
    return torch.cat([x.flatten(1) for x in parts], 1)
