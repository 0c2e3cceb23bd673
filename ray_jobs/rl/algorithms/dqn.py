"""Deep Q-learning with a target network, and double Q-learning as an option.

Source: Mnih et al. 2015, doi:10.1038/nature14236, algorithm 1; van Hasselt et al. 2016, arXiv:1509.06461, eq. 4.
Differs: Adam in place of RMSProp; Huber's loss on the error in place of clipping its gradient; ReLU networks for vectors.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor, nn

from ray_jobs.rl.algorithm import Act, Optimizer, Replay, Transitions, World, adam, descend
from ray_jobs.rl.nets import mlp
from ray_jobs.rl.value_losses import huber, q_target


class QAgent(nn.Module):
    """Q [*, A], its slow copy, and how often to explore, which travels with the weights."""

    def __init__(self, inputs: int, actions: int, width: int) -> None:
        super().__init__()
        self.q = mlp([inputs, width, width, actions], activation=nn.ReLU)
        self.target = copy.deepcopy(self.q).requires_grad_(False)
        self.register_buffer("epsilon", torch.ones(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))


@dataclass(frozen=True)
class DQN:
    """One gradient step on Bellman errors per replayed batch; exploration falls linearly."""

    capacity: int = 100_000
    """Transitions kept."""
    batch: int = 64
    """Transitions of one update."""
    warmup: int = 1000
    """Steps before the first update."""
    every: int = 256
    """Steps between rounds of updates."""
    updates: int = 128
    """Updates in a round."""
    gamma: float = 0.99
    """Discount."""
    lr: float = 2.3e-3
    """Adam's step size, at the start."""
    anneal: bool = False
    """Let `lr` fall linearly to 0 over the training: the last policy then wavers less."""
    double: bool = False
    """Let the online network choose the action that the target network values."""
    target_every: int = 128
    """Updates between copies of the online network into the target."""
    explore_for: float = 0.16
    """Share of the training over which epsilon falls."""
    epsilon: float = 0.04
    """Probability of a random action after that."""
    error_clip: float = 1.0
    """Where the loss turns from square to linear: at 1, few bad ends are outvoted by many steps before them."""
    max_norm: float = 10.0
    """Largest norm of a gradient."""
    width: int = 256
    """Units in each of two hidden layers."""

    @property
    def experience(self) -> Replay:
        return Replay(self.capacity, self.batch, self.warmup, self.every, self.updates)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> QAgent:
        if not isinstance(action, gym.spaces.Discrete) or action.start != 0:
            raise ValueError(
                f"DQN needs a Discrete action space that starts at 0, and this is {action}: take PPO, say."
            )
        return QAgent(math.prod(obs.shape), int(action.n), self.width)

    def optimizers(self, agent: QAgent) -> dict[str, Optimizer]:
        return {"q": adam(agent.q, self.lr)}

    def act(self, agent: QAgent, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        q = agent.q(obs.flatten(1))
        best = q.argmax(-1)
        if not explore:
            return Act(best, {})
        other = torch.randint(q.shape[-1], best.shape, generator=rng, device=rng.device).to(q.device)
        wander = torch.rand(best.shape, generator=rng, device=rng.device).to(q.device) < agent.epsilon
        return Act(torch.where(wander, other, best), {})

    def update(
        self, agent: QAgent, optimizers: Mapping[str, Optimizer], data: Transitions, world: World
    ) -> dict[str, Tensor]:
        optimizers["q"].param_groups[0]["lr"] = self.lr * (1 - world.progress if self.anneal else 1)
        obs, after = data.obs.flatten(1), data.next_obs.flatten(1)
        with torch.no_grad():
            chooser = agent.q(after) if self.double else None
            target = q_target(data.reward, data.discount, agent.target(after), chooser)
        q = agent.q(obs).gather(-1, data.action[..., None]).squeeze(-1)
        loss = huber(q, target, self.error_clip).mean()
        descend(loss, optimizers["q"], world, self.max_norm)
        self.age(agent, world.progress)
        return {"td_loss": loss.detach(), "q": q.detach().mean(), "epsilon": agent.epsilon}

    @torch.no_grad()
    def age(self, agent: QAgent, progress: float) -> None:
        """Let epsilon fall, and the target catch up when it is due."""
        agent.epsilon.fill_(1 - (1 - self.epsilon) * min(1.0, progress / self.explore_for))
        agent.updates += 1
        if agent.updates % self.target_every == 0:
            torch._foreach_copy_(list(agent.target.parameters()), list(agent.q.parameters()))
