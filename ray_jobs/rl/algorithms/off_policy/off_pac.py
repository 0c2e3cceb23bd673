"""Off-policy actor-critic: a policy learned from what another one does, with GTD(lambda) as its critic.

Source: Degris et al. 2012, arXiv:1205.4839, algorithm 1 and eq. 5. The traces' sums are rearranged into forward ones.
Differs: V and the critic's second weights, w.x in the paper, are networks, as in Patterson et al. 2022, arXiv:2104.13844: with linear
ones over the same features the steps are the paper's own. One step by the mean over a few steps of many environments, at whose
end traces end; Adam.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor, nn

from ray_jobs.recipe.ranges import Count, NotNegative, Positive, Share, Threshold
from ray_jobs.rl.batches import values
from ray_jobs.rl.contract import Act, Fresh, Log, Optimizers, Steps, World
from ray_jobs.rl.maths import draws
from ray_jobs.rl.maths.policy_losses import policy_gradient
from ray_jobs.rl.maths.returns import accumulate
from ray_jobs.rl.maths.value_losses import squared
from ray_jobs.rl.networks.agents import ActorCritic
from ray_jobs.rl.networks.nets import ConvNet, TanhMLP, brightest
from ray_jobs.rl.networks.policies import policy_for
from ray_jobs.rl.optim.step import adam, gradient_step


class Agent(ActorCritic):
    """An actor-critic with the critic's correction h(obs) [*], and a fixed policy, whose numbers are all 0: even choices, or standard
    normal actions."""

    def __init__(
        self, obs: gym.spaces.Box, action: gym.Space, *, width: int, net: Callable[..., nn.Module] = TanhMLP
    ) -> None:
        super().__init__(obs, action, width=width, net=net)
        self.fixed = policy_for(action).requires_grad_(False)
        n = math.prod(obs.shape)
        self.second = ConvNet(obs.shape, 1, top=brightest(obs)) if self.image else net([n, width, width, 1])

    def correction(self, obs: Tensor) -> Tensor:
        """The critic's correction h(obs) [*] of observations [*, *O]."""
        return self.second(self.encode(obs)).squeeze(-1)


@dataclass(frozen=True)
class OffPAC:
    """Log pi and V move by importance-weighted temporal differences along the behaviour's steps."""

    wander: Share = 1.0
    """Share of the actions that a fixed policy takes, even over choices, normal over a Box; the rest are the learned policy's own."""
    lam: Share = 0.4
    """How far traces reach: 0 is one step, 1 to the horizon's end."""
    horizon: Count = 16
    """Steps of each environment between updates."""
    lr: Positive = 1e-3
    """Adam's step size, at the start; it falls linearly to 0."""
    gamma: Share = 0.99
    """Discount."""
    value_weight: NotNegative = 1.0
    """Weight of the critic's losses."""
    max_norm: Threshold = 1.0
    """Largest norm of a gradient."""
    width: Count = 64
    """Units in each of two hidden layers."""

    def __post_init__(self) -> None:
        if not 0 <= self.wander <= 1:
            raise ValueError(f"wander is a share of the actions, from 0 to 1, and here it is {self.wander}.")

    @property
    def experience(self) -> Fresh:
        return Fresh(self.horizon)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> Agent:
        return Agent(obs, action, width=self.width)

    def optimizers(self, agent: Agent) -> Optimizers:
        return {"all": adam(agent, self.lr)}

    def act(self, agent: Agent, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        action, out = agent.act(obs, explore=explore, rng=rng)
        if not explore:
            return Act(action, {})
        zero, by_chance = torch.zeros_like(out), draws.uniform((len(obs),), rng) < self.wander
        other = agent.fixed.sample(zero, rng)
        mixed = torch.where(by_chance.to(out.device).view(-1, *[1] * (action.dim() - 1)), other, action)
        share = torch.tensor([self.wander, 1 - self.wander], device=out.device).log()
        fixed, own = agent.fixed.log_prob(zero, mixed), agent.policy.log_prob(out, mixed)
        return Act(mixed, {"logp": torch.logaddexp(fixed + share[0], own + share[1])})

    def update(self, agent: Agent, optimizers: Optimizers, data: Steps, world: World) -> Log:
        optimizers["all"].lr = self.lr * (1 - world.progress)
        logp = agent.policy.log_prob(agent.logits(data.obs[:-1]), data.action)
        ratio = (logp.detach() - data.extras["logp"]).exp()
        (value, after), second = values(agent.value, data), agent.correction(data.obs[:-1])
        discount = data.discount(self.gamma)
        decay = self.lam * discount * data.carry
        excess = accumulate(ratio * (data.reward + discount * after - value).detach(), decay * ratio)
        policy = policy_gradient(logp, excess).mean()
        critic = self.critic_loss(value, discount * after, second, excess, traced(second.detach(), ratio, decay))
        gradient_step(policy + self.value_weight * critic, optimizers["all"], world, self.max_norm)
        log = {"policy_loss": policy, "excess": excess.square().mean(), "value": value.mean(), "ratio": ratio.mean()}
        return {k: x.detach() for k, x in log.items()}

    def critic_loss(self, value: Tensor, after: Tensor, second: Tensor, excess: Tensor, trace: Tensor) -> Tensor:
        """Its gradient by V is GTD(lambda)'s step, negated, that by the correction the one by which it follows `excess`."""
        return ((1 - self.lam) * trace * after - excess * value + 0.5 * squared(second, excess)).mean()


def traced(x: Tensor, ratio: Tensor, decay: Tensor) -> Tensor:
    """e[t] = ratio[t] (x[t] + decay[t-1] e[t-1]) [T, B]: what reaches each step from those before it."""
    into = torch.cat([torch.zeros_like(decay[:1]), decay[:-1]])
    return accumulate((ratio * x).flip(0), (ratio * into).flip(0)).flip(0)
