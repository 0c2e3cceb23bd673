"""Trust region policy optimisation.

Source: Schulman et al. 2015, arXiv:1502.05477, eq. 14 and appendix C; advantages: Schulman et al. 2016, arXiv:1506.02438, eq. 16.
Differs: advantages are generalised and standardised; the value function is fitted by epochs of Adam. The damping is a
part of the metric that scales the step. Policy and value never share layers, for a step of the one must not move the other.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from ray_jobs.recipe.ranges import Count, Fraction, Positive, Share
from ray_jobs.rl.batches import standardise, values
from ray_jobs.rl.contract import Act, Fresh, Log, Optimizer, Optimizers, Steps, World
from ray_jobs.rl.maths import draws
from ray_jobs.rl.maths.curvature import fisher_product, flat, line_search, natural_step
from ray_jobs.rl.maths.policy_losses import surrogate
from ray_jobs.rl.maths.returns import gae
from ray_jobs.rl.maths.value_losses import squared
from ray_jobs.rl.networks.agents import ActorCritic
from ray_jobs.rl.networks.nets import plain_tanh
from ray_jobs.rl.optim.step import adam, gradient_step


class Batch(NamedTuple):
    """Steps of a batch, in the order of time."""

    obs: Tensor
    """[N, *O]"""
    action: Tensor
    """[N, *A]"""
    advantage: Tensor
    """[N]"""
    target: Tensor
    """[N], for the value"""


@dataclass(frozen=True)
class TRPO:
    """One natural step up the surrogate per batch, shortened until the policy has moved by at most `max_kl`."""

    horizon: Count = 128
    """Steps of each environment between updates."""
    max_kl: Positive = 0.01
    """How far the policy may move in one update: mean KL(old || new) in nats."""
    damping: Positive = 0.1
    """Added to the Fisher matrix."""
    iterations: Count = 10
    """Fisher products of one conjugate gradient, at most."""
    thin: Count = 1
    """Fisher products are means over every so-manieth step of the batch."""
    shrink: Fraction = 0.8
    """What each attempt of the line search is to the one before."""
    attempts: Count = 10
    """Of the line search; after the last the policy stays as it was."""
    gamma: Share = 0.99
    """Discount."""
    lam: Share = 0.95
    """GAE's lambda."""
    lr: Positive = 1e-3
    """Adam's step size for the value, at the start."""
    anneal: bool = False
    """Let `lr` fall linearly to 0 over the training."""
    value_epochs: Count = 5
    """Passes over each batch to fit the value."""
    minibatches: Count = 4
    """Parts of a batch, each one gradient step of the value."""
    width: Count = 64
    """Units in each of two hidden layers."""

    not_together = "its line search branches on each seed's KL"

    @property
    def experience(self) -> Fresh:
        return Fresh(self.horizon)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> ActorCritic:
        return ActorCritic(obs, action, width=self.width, separate=True, net=plain_tanh)

    def optimizers(self, agent: ActorCritic) -> Optimizers:
        return {"critic": adam(agent.critic, self.lr)}

    def act(self, agent: ActorCritic, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        return Act(agent.act(obs, explore=explore, rng=rng)[0], {})

    def update(self, agent: ActorCritic, optimizers: Optimizers, data: Steps, world: World) -> Log:
        optimizers["critic"].lr = self.lr * (1 - world.progress if self.anneal else 1)
        batch = self.prepare(agent, data, world)
        log = self.climb(agent, batch, world)
        return log | {"value_loss": self.fit(agent, batch, optimizers["critic"], world)}

    @torch.no_grad()
    def prepare(self, agent: ActorCritic, data: Steps, world: World) -> Batch:
        """Observations, actions, standardised advantages and targets of V, [T x B, ...] each, of a fragment [T, B]."""
        value, after = values(agent.value, data)
        advantage = gae(data.reward, value, after, data.discount(self.gamma), data.carry, self.lam)
        parts = data.obs[:-1], data.action, standardise(advantage, world), advantage + value
        return Batch(*(x.flatten(0, 1) for x in parts))

    def climb(self, agent: ActorCritic, batch: Batch, world: World) -> Log:
        """Move the policy by the longest share of its natural step that improves it within the trust region."""
        parameters, step = self.natural(agent, batch, world)
        start, old = flat([p.detach() for p in parameters]), copy.deepcopy(agent.policy)
        with torch.no_grad():
            before = agent.logits(batch.obs)
            logp = agent.policy.log_prob(before, batch.action)

        @torch.no_grad()
        def after(share: float) -> tuple[Tensor, Tensor]:
            vector_to_parameters(start + share * step, parameters)
            out = agent.logits(batch.obs)
            gain = -surrogate(agent.policy.log_prob(out, batch.action), logp, batch.advantage) - batch.advantage
            return gain.mean(), agent.policy.kl(before, out, old).mean()

        share = line_search(after, self.max_kl, shrink=self.shrink, attempts=self.attempts, mean=world.mean)
        gain, kl = after(share)
        entropy = agent.policy.entropy(before).detach().mean()
        return {"gain": gain, "kl": kl, "share": torch.tensor(share), "entropy": entropy}

    def natural(self, agent: ActorCritic, batch: Batch, world: World) -> tuple[list[nn.Parameter], Tensor]:
        """The policy's parameters and their natural step [P] to the edge of the quadratic trust region."""
        parameters = [*agent.actor.parameters(), *agent.policy.parameters()]
        logp = agent.policy.log_prob(agent.logits(batch.obs), batch.action)
        gain = -surrogate(logp, logp, batch.advantage).mean()
        gradient = world.mean(flat(torch.autograd.grad(gain, parameters)))
        out = agent.logits(batch.obs[:: self.thin])
        kl = agent.policy.kl(out.detach(), out).mean()
        product = fisher_product(kl, parameters, self.damping, world.mean)
        return parameters, natural_step(product, gradient, self.max_kl, self.iterations)

    def fit(self, agent: ActorCritic, batch: Batch, optimizer: Optimizer, world: World) -> Tensor:
        """Epochs of minibatch descent on the squared error of the value; the last one's."""
        for _ in range(self.value_epochs):
            order = draws.permutation(len(batch.target), world.rng).to(batch.target.device)
            for rows in order.chunk(self.minibatches):
                error = squared(agent.value(batch.obs[rows]), batch.target[rows]).mean()
                gradient_step(error, optimizer, world)
        return error.detach()
