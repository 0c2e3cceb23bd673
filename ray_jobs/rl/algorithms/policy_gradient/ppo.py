"""Proximal policy optimisation with the clipped surrogate, or with an adaptive penalty on the KL.

Source: Schulman et al. 2017, arXiv:1707.06347, eq. 7 to 9, section 4 and algorithm 1.
Differs: advantages are standardised in each minibatch; policy and value have networks of their own unless they share layers;
Gaussian deviations are free parameters, in units of the Box (`networks.policies.Units`). Value clipping, annealing and the KL stop are
options, as studied by Engstrom et al. 2020, arXiv:2005.12729. The penalty's weight stays between 1e-3 and 1e3, so that it can always
double or halve.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor

from ray_jobs.recipe.ranges import Count, NotNegative, Positive, Share, Threshold
from ray_jobs.rl.batches import Batch, advantage_batch, kl_and_entropy, shuffled, standardise
from ray_jobs.rl.contract import Act, Fresh, Log, Optimizers, Steps, World
from ray_jobs.rl.maths import policy_losses, value_losses
from ray_jobs.rl.networks.agents import ActorCritic
from ray_jobs.rl.networks.policies import Policy
from ray_jobs.rl.optim.step import adam, gradient_step


@dataclass(frozen=True)
class PPO:
    """Several epochs of minibatch ascent on the clipped or penalised surrogate after every `horizon` steps."""

    horizon: Count = 128
    """Steps of each environment between updates."""
    epochs: Count = 4
    """Passes over each batch."""
    minibatches: Count = 4
    """Parts of a batch; each is one gradient step, and has this learner's share of the steps."""
    lr: Positive = 2.5e-4
    """Adam's step size, at the start."""
    anneal: bool = False
    """Let `lr` and `clip` fall linearly to 0 over the training."""
    clip: Positive = 0.2
    """How far the probability ratio may move from 1, at the start."""
    gamma: Share = 0.99
    """Discount."""
    lam: Share = 0.95
    """GAE's lambda."""
    value_weight: NotNegative = 0.5
    """Weight of the value loss."""
    value_clip: NotNegative = 0.0
    """How far values may move in one update; 0 does not clip."""
    entropy_weight: NotNegative = 0.0
    """Weight of the entropy bonus."""
    max_norm: Threshold = 0.5
    """Largest norm of a gradient."""
    target_kl: NotNegative = 0.0
    """End an update after the epoch whose KL from the old policy exceeds this; 0 never does."""
    penalty_kl: NotNegative = 0.0
    """KL that an update is to reach, by a penalty of adapted weight in place of clipping; 0 clips."""
    penalty: Positive = 1.0
    """Weight of the KL penalty, at the start."""
    normalize_advantage: bool = True
    """Standardise advantages in each minibatch."""
    width: Count = 64
    """Units in each of two hidden layers."""
    shared: bool = False
    """Let policy and value have their hidden layers in common."""

    @property
    def experience(self) -> Fresh:
        return Fresh(self.horizon)

    @property
    def not_together(self) -> str:
        """Why seeds cannot train together, see `contract.reason_not_together`."""
        return "it branches on KLs, numbers that differ between seeds" if self.target_kl or self.penalty_kl else ""

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> ActorCritic:
        agent = ActorCritic(obs, action, width=self.width, shared=self.shared)
        if self.penalty_kl:
            agent.register_buffer("beta", torch.tensor(self.penalty))
        return agent

    def optimizers(self, agent: ActorCritic) -> Optimizers:
        return {"all": adam(agent, self.lr, eps=1e-5)}

    def act(self, agent: ActorCritic, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        return Act(agent.act(obs, explore=explore, rng=rng)[0], {})

    def update(self, agent: ActorCritic, optimizers: Optimizers, data: Steps, world: World) -> Log:
        scale = 1 - world.progress if self.anneal else 1.0
        optimizers["all"].lr = self.lr * scale
        batch = advantage_batch(agent, data, self.gamma, self.lam)
        old = copy.deepcopy(agent.policy) if self.penalty_kl else None
        for _ in range(self.epochs):
            for part in shuffled(batch, self.minibatches, world):
                loss, log = self.loss(agent, part, self.clip * scale, world, old)
                gradient_step(loss, optimizers["all"], world, self.max_norm)
            if self.target_kl and world.mean(kl_and_entropy(agent, part)["kl"]) > self.target_kl:
                break
        log = {k: x.detach() for k, x in log.items()} | kl_and_entropy(agent, part)
        return log | (self.adapt(agent, batch, world, old) if old else {})

    def loss(
        self, agent: ActorCritic, part: Batch, clip: float, world: World, old: Policy | None = None
    ) -> tuple[Tensor, Log]:
        """Equation 9, negated, and its two parts; given the policy as it was before the update, equation 8 in place of 7."""
        out, value = agent(part.obs)
        logp = agent.policy.log_prob(out, part.action)
        advantage = standardise(part.advantage, world) if self.normalize_advantage else part.advantage
        if old is None:
            ratio = (logp - part.logp).exp()
            bound = advantage + clip * advantage.abs()  # equation 7: min(r A, clip(r) A) is min(r A, A + clip |A|)
            policy_loss = -torch.minimum(ratio * advantage, bound).mean()
        else:
            kl = agent.policy.kl(part.out, out, old)
            policy_loss = policy_losses.kl_penalty(logp, part.logp, advantage, kl, agent.beta).mean()
        value_loss = value_losses.clipped(value, part.target, part.value, self.value_clip).mean()
        loss = policy_loss + self.value_weight * value_loss
        if self.entropy_weight:
            loss = loss - self.entropy_weight * agent.policy.entropy(out).mean()
        return loss, {"policy_loss": policy_loss, "value_loss": value_loss}

    @torch.no_grad()
    def adapt(self, agent: ActorCritic, batch: Batch, world: World, old: Policy) -> Log:
        """Set the penalty's weight for the next update by the exact KL of this one, over the whole batch (section 4)."""
        kl = world.mean(agent.policy.kl(batch.out, agent.logits(batch.obs), old).mean())
        agent.beta.copy_(policy_losses.adapted(agent.beta, kl, self.penalty_kl).clamp_(1e-3, 1e3))
        return {"kl": kl, "beta": agent.beta.clone()}
