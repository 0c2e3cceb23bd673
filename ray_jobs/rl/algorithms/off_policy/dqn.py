"""Deep Q-learning with a target network; double Q-learning, prioritised replay and returns of n steps are options.

Source: Mnih et al. 2015, doi:10.1038/nature14236, algorithm 1; van Hasselt et al. 2016, arXiv:1509.06461, eq. 4;
Schaul et al. 2016, arXiv:1511.05952, algorithm 1; Sutton & Barto 2018, eq. 7.1.
Differs: Adam in place of RMSProp; Huber's loss on the error in place of clipping its gradient; ReLU networks for vectors; returns of
n steps are not corrected for the policy that played them, as in Hessel et al. 2018, arXiv:1710.02298.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor, nn

from ray_jobs.recipe.ranges import Count, NotNegative, Part, Positive, Share, Threshold, Whole
from ray_jobs.rl.contract import Act, Log, Optimizers, Replay, Transitions, World
from ray_jobs.rl.maths import draws
from ray_jobs.rl.maths.value_losses import q_target
from ray_jobs.rl.networks.agents import rows
from ray_jobs.rl.networks.critics import overwrite, slow_q
from ray_jobs.rl.networks.nets import ConvNet, ReLUMLP, brightest, image
from ray_jobs.rl.networks.regression import huber_of_chosen
from ray_jobs.rl.optim.step import adam, gradient_step


class QAgent(nn.Module):
    """Q [B, A] of observations [B, *O], its slow copy, and the probability of exploring, which runners get with the weights."""

    def __init__(self, obs: gym.spaces.Box, actions: int, width: int) -> None:
        super().__init__()
        self.image, self.event = image(obs), len(obs.shape)
        if self.image:
            self.q: nn.Module = ConvNet(obs.shape, actions, top=brightest(obs))
        else:
            self.q = ReLUMLP([math.prod(obs.shape), width, width, actions])
        self.target = copy.deepcopy(self.q).requires_grad_(False)
        self.register_buffer("epsilon", torch.ones(()))

    @property
    def acting(self) -> nn.Module:
        """The part that a runner needs: without the slow copy."""
        part = nn.Module()
        part.q = self.q
        part.register_buffer("epsilon", self.epsilon)
        return part

    def encode(self, obs: Tensor) -> Tensor:
        """[B, *O] -> [B, n] floats; images stay as they are."""
        return obs if self.image else rows(obs, self.event)


@dataclass(frozen=True)
class DQN:
    """One gradient step on Bellman errors per replayed batch; exploration falls linearly."""

    buffer_size: Count = 100_000
    """Transitions kept."""
    batch_size: Count = 64
    """Transitions of one update."""
    learning_starts: Whole = 1000
    """Steps before the first update."""
    train_every: Count = 256
    """Steps between rounds of updates."""
    updates_per_train: Count = 128
    """Updates in a round."""
    gamma: Share = 0.99
    """Discount."""
    lr: Positive = 2.3e-3
    """Adam's step size, at the start."""
    anneal: bool = False
    """Let `lr` fall linearly to 0 over the training: the last policy then wavers less."""
    double: bool = False
    """Let the online network choose the action that the target network values."""
    priority: NotNegative = 0.0
    """Exponent of the errors in proportion to which transitions are drawn; 0 draws evenly."""
    n_step: Count = 1
    """Steps whose rewards a target sums, at most."""
    target_every: Count = 128
    """Updates between copies of the online network into the target."""
    explore_for: Part = 0.16
    """Share of the training over which epsilon falls."""
    epsilon: Share = 0.04
    """Probability of a random action after that."""
    error_clip: Threshold = 1.0
    """Where the loss turns from square to linear: at 1, few bad ends are outvoted by many steps before them."""
    max_norm: Threshold = 10.0
    """Largest norm of a gradient."""
    width: Count = 256
    """Units in each of two hidden layers; the network of images has its own."""

    @property
    def experience(self) -> Replay:
        return Replay(
            self.buffer_size,
            self.batch_size,
            self.learning_starts,
            self.train_every,
            self.updates_per_train,
            n_step=self.n_step,
            priority=self.priority,
        )

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> QAgent:
        if not isinstance(action, gym.spaces.Discrete) or action.start != 0:
            raise ValueError(f"DQN needs a Discrete action space that starts at 0, and this is {action}.")
        return QAgent(obs, int(action.n), self.width)

    def optimizers(self, agent: QAgent) -> Optimizers:
        return {"q": adam(agent.q, self.lr)}

    def act(self, agent: QAgent, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        q = agent.q(agent.encode(obs))
        best = q.argmax(-1)
        if not explore:
            return Act(best, {})
        other = draws.integers(q.shape[-1], best.shape, rng).to(q.device)
        wander = draws.uniform(best.shape, rng).to(q.device) < agent.epsilon
        return Act(torch.where(wander, other, best), {})

    def update(self, agent: QAgent, optimizers: Optimizers, data: Transitions, world: World) -> Log:
        optimizer = optimizers["q"]
        optimizer.lr = self.lr * (1 - world.progress if self.anneal else 1)
        agent.epsilon.fill_(1 - (1 - self.epsilon) * min(1.0, world.progress / self.explore_for))
        target = self.target(agent, data, self.target_every - optimizer.steps % self.target_every)
        every_q = agent.q(agent.encode(data.obs))
        loss, q = huber_of_chosen(every_q, data.action, target, data.weight, self.error_clip)
        gradient_step(loss, optimizer, world, self.max_norm)
        if optimizer.steps % self.target_every == 0:
            overwrite(agent.target.parameters(), agent.q.parameters())
        log = {"td_loss": loss.detach(), "q": q.mean(), "epsilon": agent.epsilon}
        return log | ({"priority": (q - target).abs()} if self.priority else {})

    @torch.no_grad()
    def target(self, agent: QAgent, data: Transitions, rests: int) -> Tensor:
        """r + discount * max_a Q'(s', a), or the Q' of the action that Q prefers, [N]; Q' rests for so many updates."""
        after = agent.encode(data.next_obs)
        chooser = agent.q(after) if self.double else None
        return q_target(data.reward, data.discount, slow_q(agent.target, after, rests), chooser)
