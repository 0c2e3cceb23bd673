"""Soft actor-critic, with a fixed or an automatic temperature.

Source: Haarnoja et al. 2018, arXiv:1801.01290, and arXiv:1812.05905, algorithm 1, eq. 5 to 9 and 18; with discrete actions
Christodoulou 2019, arXiv:1910.07207, eq. 10 to 12.
Differs: the first steps are the untrained policy's, not uniform; the temperature moves by its logarithm, at the actor's step size.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import gymnasium as gym
import torch
from torch import Tensor, nn

from ray_jobs.rl.contract import Act, Optimizer, Replay, Transitions, World
from ray_jobs.rl.maths.policy_losses import soft, temperature
from ray_jobs.rl.maths.value_losses import squared, squared_slope
from ray_jobs.rl.networks.agents import rows
from ray_jobs.rl.networks.critics import Ensemble, polyak
from ray_jobs.rl.networks.nets import mlp
from ray_jobs.rl.networks.policies import Categorical, SquashedGaussian
from ray_jobs.rl.optim.step import adam, descend, descend_along


class SoftActor(nn.Module):
    """A policy with its temperature's logarithm, which one optimiser moves together."""

    def __init__(self, obs: gym.spaces.Box, action: gym.Space, width: int, alpha: float) -> None:
        super().__init__()
        self.event, self.policy = len(obs.shape), soft_policy(action)
        self.net = mlp([math.prod(obs.shape), width, width, self.policy.outputs], activation=nn.ReLU)
        self.log_alpha = nn.Parameter(torch.tensor(math.log(alpha)))


class SoftAgent(nn.Module):
    """The actor, two critics and their slow copies. A critic puts out one number for a Box, else one for each action."""

    def __init__(self, obs: gym.spaces.Box, action: gym.Space, width: int, alpha: float) -> None:
        super().__init__()
        self.actor, n = SoftActor(obs, action, width, alpha), math.prod(obs.shape)
        policy = self.actor.policy
        self.discrete = isinstance(policy, Categorical)
        ends = (n, policy.outputs) if self.discrete else (n + policy.squash.n, 1)
        self.critics = Ensemble(2, [ends[0], width, width, ends[1]])
        self.target = copy.deepcopy(self.critics).requires_grad_(False)

    @property
    def acting(self) -> SoftActor:
        return self.actor


def soft_policy(action: gym.Space) -> Categorical | SquashedGaussian:
    """What SAC draws actions from.

    Raises:
        ValueError: it has none for the space.
    """
    if isinstance(action, gym.spaces.Discrete) and action.start == 0 and action.n > 1:
        return Categorical(int(action.n))
    try:
        return SquashedGaussian(action)
    except ValueError:
        raise ValueError(
            f"SAC needs a Box with finite bounds, low below high, or two Discrete actions or more from 0 on, and this is {action}."
        ) from None


def taken(q: Tensor, action: Tensor) -> Tensor:
    """Of Q [*, critics, N, A] that of actions [*, N] which were taken: [*, critics, N]."""
    return q.gather(-1, of_all(q, action)).squeeze(-1)


def of_all(q: Tensor, action: Tensor) -> Tensor:
    """Actions [*, N] for every critic, [*, critics, N, 1]."""
    return action[..., None, :, None].expand(*q.shape[:-1], 1)


def td_slope(q: Tensor, target: Tensor, action: Tensor | None = None) -> Tensor:
    """The gradient by Q, [*, critics, N] or [*, critics, N, A], of half the mean squared errors; the rest is [*, N]."""
    q_taken = q if action is None else taken(q, action)
    error = 0.5 * squared_slope(q_taken, target.unsqueeze(-2)) / target.shape[-1]
    return error if action is None else torch.zeros_like(q).scatter_(-1, of_all(q, action), error[..., None])


class Considered(NamedTuple):
    """What the policy might do in N observations, and what that is worth."""

    logp: Tensor
    """log pi: of one drawn action each [N], or of all actions [N, A]."""
    q: Tensor
    """The lesser of two critics' values of them, of the same shape."""

    def expected(self, x: Tensor) -> Tensor:
        """The mean [N] of x under the policy: in closed form over all actions, by the one drawn otherwise."""
        return (self.logp.exp() * x).sum(-1) if x.dim() > 1 else x


@dataclass(frozen=True)
class SAC:
    """One step each for critics, policy and temperature per replayed batch."""

    capacity: int = 100_000
    """Transitions kept."""
    batch: int = 256
    """Transitions of one update."""
    warmup: int = 1000
    """Steps before the first update."""
    every: int = 4
    """Steps between rounds of updates."""
    updates: int = 1
    """Updates in a round."""
    gamma: float = 0.99
    """Discount."""
    lr: float = 3e-4
    """Adam's step size for the policy and the temperature."""
    critic_lr: float = 3e-4
    """Adam's step size for the critics."""
    tau: float = 0.005
    """Share of the way that the slow critics go to the others in each update."""
    automatic: bool = True
    """Let the temperature seek `target_entropy`."""
    alpha: float = 1.0
    """The temperature: the weight of a nat of entropy beside rewards; where automatic, at the start."""
    target_entropy: float | None = None
    """In nats, of actions scaled to +-1. None is minus their dimension or, of n discrete actions, 0.98 log n."""
    width: int = 64
    """Units in each of two hidden layers."""

    @property
    def experience(self) -> Replay:
        return Replay(self.capacity, self.batch, self.warmup, self.every, self.updates)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> SoftAgent:
        if self.alpha <= 0:
            raise ValueError(f"SAC's alpha must be above 0, and this is {self.alpha}.")
        return SoftAgent(obs, action, self.width, self.alpha)

    def optimizers(self, agent: SoftAgent) -> dict[str, Optimizer]:
        return {"actor": adam(agent.actor, self.lr), "critics": adam(agent.critics, self.critic_lr)}

    def act(self, agent: SoftAgent, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        policy, out = agent.actor.policy, agent.actor.net(rows(obs, agent.actor.event))
        return Act(policy.sample(out, rng) if explore else policy.mode(out), {})

    def update(
        self, agent: SoftAgent, optimizers: Mapping[str, Optimizer], data: Transitions, world: World
    ) -> dict[str, Tensor]:
        obs, after = (rows(x, agent.actor.event) for x in (data.obs, data.next_obs))
        alpha = agent.actor.log_alpha.detach().exp()
        target = self.target(agent, data, after, alpha, world.rng)
        q = self.value(agent, optimizers["critics"], obs, data.action, target, world)
        error = 0.5 * squared(q, target.expand_as(q)).sum(0).mean()
        out, back = agent.actor.net.taped(obs)
        now = self.consider(agent, agent.critics, obs, out, world.rng)
        policy, logp = now.expected(soft(now.logp, now.q, alpha)).mean(), now.expected(now.logp).mean()
        loss = policy + temperature(agent.actor.log_alpha, logp, self.goal(agent)) if self.automatic else policy
        descend(loss, optimizers["actor"], world, back=back)
        polyak(agent.target.parameters(), agent.critics.parameters(), self.tau)
        log = {"critic_loss": error, "policy_loss": policy, "entropy": -logp, "alpha": alpha, "q": q.mean()}
        return {k: x.detach() for k, x in log.items()}

    @torch.no_grad()
    def target(self, agent: SoftAgent, data: Transitions, after: Tensor, alpha: Tensor, rng: torch.Generator) -> Tensor:
        """r + discount * the soft value of what comes after [N]: equation 5's target."""
        then = self.consider(agent, agent.target, after, agent.actor.net(after), rng)
        return torch.addcmul(data.reward, data.discount, then.expected(then.q - alpha * then.logp))

    def value(
        self, agent: SoftAgent, optimizer: Optimizer, obs: Tensor, action: Tensor, target: Tensor, world: World
    ) -> Tensor:
        """One step of both critics towards a target [N]; their values [2, N] of what was done, from before it."""
        inputs, known = (obs, action), (target,)
        if agent.discrete:
            inputs, known = (obs, obs[:, :0]), (target, action)
        q = descend_along(td_slope, agent.critics, inputs, known, optimizer, world)
        return taken(q, action) if agent.discrete else q

    def consider(
        self, agent: SoftAgent, critics: Ensemble, obs: Tensor, out: Tensor, rng: torch.Generator
    ) -> Considered:
        """What today's policy, of which the actor says `out`, might do, and what the critics say of it; gradients reach `out` alone."""
        if agent.discrete:
            with torch.no_grad():
                q = critics(obs, obs[:, :0]).amin(0)
            return Considered(out.log_softmax(-1), q)
        action, logp = agent.actor.policy.rsample(out, rng)
        return Considered(logp, critics(obs, action, frozen=True).amin(0))

    def goal(self, agent: SoftAgent) -> Tensor | float:
        """The target entropy in the units of `logp`."""
        policy, given = agent.actor.policy, self.target_entropy
        if agent.discrete:
            return 0.98 * math.log(policy.outputs) if given is None else given
        return policy.squash.reach.log().sum() + (-policy.squash.n if given is None else given)
