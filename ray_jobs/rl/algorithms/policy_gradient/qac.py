"""Actor-critic with a critic of actions (QAC): Q learns by SARSA, the policy by log pi times Q.

Source: Sutton et al. 2000, Policy gradient methods for reinforcement learning with function approximation, theorem 1; Sutton &
Barto 2018, Reinforcement Learning, sections 10.1 (SARSA) and 13.5 (one-step actor-critic, whose critic of states is replaced).
Differs: networks, which need not be compatible in the sense of theorem 2; gamma^t does not weigh the step at time t; one step for
all environments' last few; Adam.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_jobs.recipe.ranges import Count, Positive, Share, Threshold
from ray_jobs.rl.batches import cut
from ray_jobs.rl.contract import Act, Fresh, Log, Optimizers, Steps, World
from ray_jobs.rl.maths.policy_losses import policy_gradient
from ray_jobs.rl.maths.value_losses import squared
from ray_jobs.rl.networks.agents import rows
from ray_jobs.rl.networks.nets import ConvNet, TanhMLP, brightest, image
from ray_jobs.rl.networks.policies import Units, policy_for
from ray_jobs.rl.optim.step import adam, gradient_step


class Actor(nn.Module):
    """The numbers of a policy for observations [*, *O]."""

    def __init__(self, obs: gym.spaces.Box, action: gym.Space, width: int, net: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.event, self.policy = len(obs.shape), policy_for(action)
        self.net = network(obs, 0, self.policy.outputs, width, net, last=0.01)

    def forward(self, obs: Tensor) -> Tensor:
        return self.net(obs if isinstance(self.net, ConvNet) else rows(obs, self.event))


class Critic(nn.Module):
    """Q(obs [*, *O], action [*, *A]) [*]: one output for each action where they can be counted, else of both side by side."""

    def __init__(self, obs: gym.spaces.Box, action: gym.Space, width: int, net: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.event, self.space = len(obs.shape), action
        if isinstance(action, gym.spaces.Discrete):
            self.net = network(obs, 0, int(action.n), width, net)
        elif image(obs):
            raise ValueError(f"QAC needs a Discrete action space where observations are images, and this is {action}.")
        else:
            if isinstance(action, gym.spaces.Box):
                self.units = Units(action)
            flat = gym.spaces.Box(-1.0, 1.0, (math.prod(obs.shape),))
            self.net = network(flat, gym.spaces.flatdim(action), 1, width, net)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        if isinstance(self.space, gym.spaces.Discrete):
            q = self.net(obs if isinstance(self.net, ConvNet) else rows(obs, self.event))
            return q.gather(-1, action[..., None]).squeeze(-1)
        return self.net(torch.cat([rows(obs, self.event), self.numbers(action)], -1)).squeeze(-1)

    def numbers(self, action: Tensor) -> Tensor:
        """[*, *A] -> [*, n]; choices one-hot."""
        if isinstance(self.space, gym.spaces.MultiDiscrete):
            parts = zip(action.unbind(-1), self.space.nvec.tolist(), strict=True)
            return torch.cat([F.one_hot(a, n) for a, n in parts], -1).float()
        return self.units.inverse(rows(action, len(self.space.shape)))


def network(
    obs: gym.spaces.Box, more: int, outputs: int, width: int, net: Callable[..., nn.Module], last: float = 1.0
) -> nn.Module:
    """Convolutions for images; else `net` of the observation and `more` numbers."""
    if image(obs):
        return ConvNet(obs.shape, outputs, top=brightest(obs), last=last)
    return net([math.prod(obs.shape) + more, width, width, outputs], last=last)


class Agent(nn.Module):
    """A policy, and Q beside it, which is not needed to act."""

    def __init__(
        self, obs: gym.spaces.Box, action: gym.Space, *, width: int, net: Callable[..., nn.Module] = TanhMLP
    ) -> None:
        super().__init__()
        self.acting, self.critic = Actor(obs, action, width, net), Critic(obs, action, width, net)


@dataclass(frozen=True)
class QAC:
    """One gradient step of the policy and one of Q after every few steps."""

    horizon: Count = 8
    """Steps of each environment between updates; each of them looks one step ahead."""
    actor_lr: Positive = 1e-3
    """Adam's step size for the policy, at the start; it falls linearly to 0."""
    critic_lr: Positive = 3e-3
    """Adam's step size for Q: larger, so that Q keeps up with the policy that it is of."""
    gamma: Share = 0.99
    """Discount."""
    max_norm: Threshold = 1.0
    """Largest norm of the policy's gradient, and of Q's."""
    width: Count = 64
    """Units in each of two hidden layers."""

    @property
    def experience(self) -> Fresh:
        return Fresh(self.horizon)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> Agent:
        return Agent(obs, action, width=self.width)

    def optimizers(self, agent: Agent) -> Optimizers:
        return {"actor": adam(agent.acting, self.actor_lr), "critic": adam(agent.critic, self.critic_lr)}

    def act(self, agent: Agent, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        actor, out = agent.acting, agent.acting(obs)
        return Act(actor.policy.sample(out, rng) if explore else actor.policy.mode(out), {})

    def update(self, agent: Agent, optimizers: Optimizers, data: Steps, world: World) -> Log:
        optimizers["actor"].lr = self.actor_lr * (1 - world.progress)
        obs, actor = data.obs[:-1], agent.acting
        q, out = agent.critic(obs, data.action), actor(obs)
        target = data.reward + self.gamma * ~data.terminated * self.following(agent, data, q.detach(), world)
        policy, error = policy_gradient(actor.policy.log_prob(out, data.action), q).mean(), squared(q, target).mean()
        gradient_step(policy, optimizers["actor"], world, self.max_norm)
        gradient_step(error, optimizers["critic"], world, self.max_norm)
        entropy = actor.policy.entropy(out.detach()).mean()
        log = {"policy_loss": policy, "td_loss": error, "q": q.mean(), "entropy": entropy}
        return {k: x.detach() for k, x in log.items()}

    @torch.no_grad()
    def following(self, agent: Agent, data: Steps, q: Tensor, world: World) -> Tensor:
        """Q(s', a') [T, B] of the action that came next; where the data do not say, one is drawn from the policy."""

        def drawn(obs: Tensor) -> Tensor:
            return agent.critic(obs, agent.acting.policy.sample(agent.acting(obs), world.rng))

        after = torch.cat([q[1:], drawn(data.obs[-1:])])
        return cut(after, drawn(data.last_obs), data.truncated) if len(data.last_obs) else after
