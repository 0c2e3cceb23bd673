"""Proximal policy optimisation with the clipped surrogate, or with an adaptive penalty on the KL.

Source: Schulman et al. 2017, arXiv:1707.06347, eq. 7 to 9, section 4 and algorithm 1.
Differs: advantages are standardised in each minibatch; policy and value have networks of their own
unless they share layers; Gaussian deviations are free parameters. Value clipping, annealing and the KL stop are options, as studied by
Engstrom et al. 2020, arXiv:2005.12729. The penalty's weight stays between 1e-3 and 1e3, from where it comes back.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import gymnasium as gym
import torch
from torch import Tensor

from ray_jobs.rl.batches import shuffled, standardise, successors
from ray_jobs.rl.contract import Act, Fresh, Optimizer, Steps, World
from ray_jobs.rl.maths import policy_losses, value_losses
from ray_jobs.rl.maths.returns import gae
from ray_jobs.rl.networks.agents import ActorCritic
from ray_jobs.rl.networks.policies import Policy
from ray_jobs.rl.optim.step import adam, descend


class Batch(NamedTuple):
    """Steps of a batch or minibatch, in no order."""

    obs: Tensor
    """[N, *O]"""
    action: Tensor
    """[N, *A]"""
    logp: Tensor
    """[N], of the policy that acted"""
    advantage: Tensor
    """[N]"""
    value: Tensor
    """[N], before the update"""
    out: Tensor
    """[N, outputs], the policy's numbers before the update"""


@dataclass(frozen=True)
class PPO:
    """Several epochs of minibatch ascent on the clipped or penalised surrogate after every `horizon` steps."""

    horizon: int = 128
    """Steps of each environment between updates."""
    epochs: int = 4
    """Passes over each batch."""
    minibatches: int = 4
    """Parts of a batch; each is one gradient step, and has this learner's share of the steps."""
    lr: float = 2.5e-4
    """Adam's step size, at the start."""
    anneal: bool = False
    """Let `lr` and `clip` fall linearly to 0 over the training."""
    clip: float = 0.2
    """How far the probability ratio may move from 1, at the start."""
    gamma: float = 0.99
    """Discount."""
    lam: float = 0.95
    """GAE's lambda."""
    value_weight: float = 0.5
    """Weight of the value loss."""
    value_clip: float = 0.0
    """How far values may move in one update; 0 does not clip."""
    entropy_weight: float = 0.0
    """Weight of the entropy bonus."""
    max_norm: float = 0.5
    """Largest norm of a gradient."""
    target_kl: float = 0.0
    """End an update after the epoch whose KL from the old policy exceeds this; 0 never does."""
    penalty_kl: float = 0.0
    """KL that an update is to reach, by a penalty of adapted weight in place of clipping; 0 clips."""
    penalty: float = 1.0
    """Weight of the KL penalty, at the start."""
    normalize_advantage: bool = True
    """Standardise advantages in each minibatch."""
    width: int = 64
    """Units in each of two hidden layers."""
    shared: bool = False
    """Let policy and value have their hidden layers in common."""

    @property
    def experience(self) -> Fresh:
        return Fresh(self.horizon)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> ActorCritic:
        agent = ActorCritic(obs, action, width=self.width, shared=self.shared)
        if self.penalty_kl:
            agent.register_buffer("beta", torch.tensor(self.penalty))
        return agent

    def optimizers(self, agent: ActorCritic) -> dict[str, Optimizer]:
        return {"all": adam(agent, self.lr, eps=1e-5)}

    def act(self, agent: ActorCritic, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        return Act(agent.act(obs, explore=explore, rng=rng)[0], {})

    def update(
        self, agent: ActorCritic, optimizers: Mapping[str, Optimizer], data: Steps, world: World
    ) -> dict[str, Tensor]:
        scale = 1 - world.progress if self.anneal else 1.0
        optimizers["all"].param_groups[0]["lr"] = self.lr * scale
        batch, old = self.prepare(agent, data), copy.deepcopy(agent.policy) if self.penalty_kl else None
        for _ in range(self.epochs):
            for part in shuffled(batch, self.minibatches, world):
                out, v, back = agent.taped(part.obs)
                policy, value, loss = self.losses(agent, out, v, part, self.clip * scale, world, old)
                descend(loss, optimizers["all"], world, self.max_norm, back)
            if self.target_kl and world.mean(self.moved(agent, part)["kl"]) > self.target_kl:
                break
        log = {"policy_loss": policy.detach(), "value_loss": value.detach()} | self.moved(agent, part)
        return log | (self.adapt(agent, batch, world, old) if old else {})

    @torch.no_grad()
    def prepare(self, agent: ActorCritic, data: Steps) -> Batch:
        """The steps flattened, with what the policy that made them thought of them: data are fresh, so it is the agent itself."""
        out, v = agent(data.obs)
        value, after = v[:-1], successors(v, agent.value, data)
        advantage = gae(data.reward, value, after, self.gamma * ~data.terminated, 1.0 * ~data.boundary, self.lam)
        logp = agent.policy.log_prob(out[:-1], data.action)
        return Batch(*(x.flatten(0, 1) for x in (data.obs[:-1], data.action, logp, advantage, value, out[:-1])))

    def losses(
        self,
        agent: ActorCritic,
        out: Tensor,
        value: Tensor,
        part: Batch,
        clip: float,
        world: World,
        old: Policy | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The policy's, the value's and both together: equation 9, negated. Scalars. With the policy as it was, equation 8's.

        Args:
            out, value: what the agent says of the part.
        """
        target = part.advantage + part.value
        advantage = standardise(part.advantage, world) if self.normalize_advantage else part.advantage
        logp = agent.policy.log_prob(out, part.action)
        if old is None:
            policy = policy_losses.clipped(logp, part.logp, advantage, clip).mean()
        else:
            kl = agent.policy.kl(part.out, out, old)
            policy = policy_losses.kl_penalty(logp, part.logp, advantage, kl, agent.beta).mean()
        if self.value_clip:
            error = value_losses.clipped(value, target, part.value, self.value_clip).mean()
        else:
            error = value_losses.squared(value, target).mean()
        loss = torch.add(policy, error, alpha=self.value_weight)
        if self.entropy_weight:
            loss = loss - self.entropy_weight * agent.policy.entropy(out).mean()
        return policy, error, loss

    @torch.no_grad()
    def moved(self, agent: ActorCritic, part: Batch) -> dict[str, Tensor]:
        """How far the policy is from the one that acted, and its entropy."""
        out = agent.logits(part.obs)
        kl = policy_losses.kl_estimate(agent.policy.log_prob(out, part.action) - part.logp)
        return {"kl": kl.mean(), "entropy": agent.policy.entropy(out).mean()}

    @torch.no_grad()
    def adapt(self, agent: ActorCritic, batch: Batch, world: World, old: Policy) -> dict[str, Tensor]:
        """Set the penalty's weight for the next update by how far this one went, over the whole batch."""
        kl = world.mean(agent.policy.kl(batch.out, agent.logits(batch.obs), old).mean())
        agent.beta.copy_(policy_losses.adapted(agent.beta, kl, self.penalty_kl).clamp_(1e-3, 1e3))
        return {"kl": kl, "beta": agent.beta.clone()}
