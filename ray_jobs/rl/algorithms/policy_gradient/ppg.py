"""Phasic policy gradient: policy and value train apart, and now and then the value's knowledge is distilled into the policy's network.

Source: Cobbe et al. 2020, arXiv:2009.04416, section 2, algorithm 1.
Differs: the auxiliary phase's value targets are GAE's by the value network as it is when that phase begins, not those of the policy phases.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import gymnasium as gym
import torch
from torch import Tensor, nn

from ray_jobs.recipe.ranges import Count, NotNegative, Positive, Share, Threshold
from ray_jobs.rl.batches import shuffled, standardise, values
from ray_jobs.rl.contract import Act, Fresh, Log, Optimizer, Optimizers, Steps, World
from ray_jobs.rl.maths.policy_losses import clipped, kl_estimate
from ray_jobs.rl.maths.returns import gae
from ray_jobs.rl.maths.value_losses import squared
from ray_jobs.rl.networks.agents import ActorCritic
from ray_jobs.rl.networks.nets import ConvNet, TanhMLP, brightest, image
from ray_jobs.rl.networks.policies import Policy
from ray_jobs.rl.optim.step import adam, gradient_step


class PhasicAgent(nn.Module):
    """A policy network with an auxiliary value head, and a value network."""

    def __init__(self, obs: gym.spaces.Box, action: gym.Space, width: int) -> None:
        super().__init__()
        self.actor = ActorCritic(obs, action, width=width, shared=True)
        if image(obs):
            self.critic: nn.Module = ConvNet(obs.shape, 1, top=brightest(obs))
        else:
            self.critic = TanhMLP([math.prod(obs.shape), width, width, 1])

    @property
    def acting(self) -> ActorCritic:
        """The part that chooses actions, which alone is sent to runners."""
        return self.actor

    def value(self, obs: Tensor) -> Tensor:
        """The value network's V(obs) [*]."""
        return self.critic(self.actor.encode(obs)).squeeze(-1)


class Batch(NamedTuple):
    """Steps in no order, with what the agent thought of them when a phase began."""

    obs: Tensor
    """[N, *O]"""
    action: Tensor
    """[N, *A]"""
    out: Tensor
    """[N, outputs]: what tells the policy"""
    logp: Tensor
    """[N]"""
    advantage: Tensor
    """[N]"""
    target: Tensor
    """[N], for the values"""


@dataclass(frozen=True)
class PPG:
    """PPO's policy loss without the value's beside it; after every `policy_phases` of those, an auxiliary phase."""

    horizon: Count = 128
    """Steps of each environment between updates."""
    policy_phases: Count = 32
    """Updates between auxiliary phases: the paper's N."""
    epochs: Count = 1
    """The policy's passes over each batch."""
    value_epochs: Count = 1
    """The value's passes over each batch."""
    minibatches: Count = 8
    """Parts of a batch; each is one gradient step, and has this learner's share of the steps."""
    aux_epochs: Count = 6
    """Passes of an auxiliary phase over all steps since the last one."""
    aux_minibatches: Count = 16
    """Parts of those steps for each policy phase they come from."""
    lr: Positive = 5e-4
    """Adam's step size, at the start."""
    anneal: bool = False
    """Let `lr` fall linearly to 0 over the training."""
    clip: Positive = 0.2
    """How far the probability ratio may move from 1."""
    gamma: Share = 0.99
    """Discount."""
    lam: Share = 0.95
    """GAE's lambda."""
    entropy_weight: NotNegative = 0.01
    """Weight of the entropy bonus."""
    aux_weight: NotNegative = 1.0
    """Weight of the auxiliary head's error."""
    beta_clone: NotNegative = 1.0
    """Weight of the KL from the policy as it was when the auxiliary phase began."""
    max_norm: Threshold = 0.5
    """Largest norm of a gradient."""
    width: Count = 64
    """Units in each of two hidden layers."""

    @property
    def experience(self) -> Fresh:
        return Fresh(self.horizon, keep=self.policy_phases)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> PhasicAgent:
        return PhasicAgent(obs, action, self.width)

    def optimizers(self, agent: PhasicAgent) -> Optimizers:
        return {k: adam(net, self.lr, eps=1e-5) for k, net in (("actor", agent.actor), ("critic", agent.critic))}

    def act(self, agent: PhasicAgent, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        return Act(agent.actor.act(obs, explore=explore, rng=rng)[0], {})

    def update(self, agent: PhasicAgent, optimizers: Optimizers, data: Steps, world: World) -> Log:
        """The policy phase."""
        for optimizer in optimizers.values():
            optimizer.lr = self.lr * (1 - world.progress if self.anneal else 1)
        batch = self.prepare(agent, data)
        for epoch in range(max(self.epochs, self.value_epochs)):
            for part in shuffled(batch, self.minibatches, world):
                if epoch < self.epochs:
                    policy, entropy, kl = self.policy_losses(agent, part, world)
                    gradient_step(policy - self.entropy_weight * entropy, optimizers["actor"], world, self.max_norm)
                if epoch < self.value_epochs:
                    error = self.fit_value(agent, optimizers["critic"], part, world)
        log = {"policy_loss": policy, "value_loss": error, "entropy": entropy, "kl": kl}
        return {k: x.detach() for k, x in log.items()}

    def fit_value(self, agent: PhasicAgent, optimizer: Optimizer, part: Batch, world: World) -> Tensor:
        """One step of the value network towards the targets; its error before."""
        error = 0.5 * squared(agent.value(part.obs), part.target).mean()
        gradient_step(error, optimizer, world, self.max_norm)
        return error

    @torch.no_grad()
    def prepare(self, agent: PhasicAgent, data: Steps) -> Batch:
        """The steps flattened, with GAE's advantages and targets by today's value network."""
        value, after = values(agent.value, data)
        advantage = gae(data.reward, value, after, data.discount(self.gamma), data.carry, self.lam)
        out = agent.actor.logits(data.obs[:-1])
        columns = (out, agent.actor.policy.log_prob(out, data.action), advantage, advantage + value)
        return Batch(*(x.flatten(0, 1) for x in (data.obs[:-1], data.action, *columns)))

    def policy_losses(self, agent: PhasicAgent, part: Batch, world: World) -> tuple[Tensor, Tensor, Tensor]:
        """The clipped surrogate, the entropy, and an estimate of the KL from the policy that acted; scalars."""
        out, policy = agent.actor.logits(part.obs), agent.actor.policy
        logp = policy.log_prob(out, part.action)
        loss = clipped(logp, part.logp, standardise(part.advantage, world), self.clip).mean()
        return loss, policy.entropy(out).mean(), kl_estimate(logp.detach() - part.logp).mean()

    def reflect(self, agent: PhasicAgent, optimizers: Optimizers, kept: Sequence[Steps], world: World) -> Log:
        """The auxiliary phase."""
        memory = Batch(*map(torch.cat, zip(*(self.prepare(agent, data) for data in kept), strict=True)))
        old = copy.deepcopy(agent.actor.policy)
        for _ in range(self.aux_epochs):
            for part in shuffled(memory, self.aux_minibatches * len(kept), world):
                auxiliary, kl = self.joint(agent, part, old)
                gradient_step(
                    self.aux_weight * auxiliary + self.beta_clone * kl, optimizers["actor"], world, self.max_norm
                )
                error = self.fit_value(agent, optimizers["critic"], part, world)
        return {"aux_loss": auxiliary.detach(), "aux_kl": kl.detach(), "aux_value_loss": error.detach()}

    def joint(self, agent: PhasicAgent, part: Batch, old: Policy) -> tuple[Tensor, Tensor]:
        """The auxiliary head's error, and KL(old || now); scalars."""
        out, value = agent.actor(part.obs)
        return 0.5 * squared(value, part.target).mean(), agent.actor.policy.kl(part.out, out, old).mean()
