"""Deep Q-learning with a target network.

Options: double Q-learning, prioritised replay, returns of n steps, dueling networks, and distributions of returns (C51, QR-DQN).

Source: Mnih et al. 2015, doi:10.1038/nature14236, algorithm 1; van Hasselt et al. 2016, arXiv:1509.06461, eq. 4;
Schaul et al. 2016, arXiv:1511.05952, algorithm 1; Sutton & Barto 2018, eq. 7.1; Wang et al. 2016, arXiv:1511.06581, eq. 9;
Bellemare et al. 2017, arXiv:1707.06887, algorithm 1; Dabney et al. 2018, arXiv:1710.10044, algorithm 1.
Differs: Adam in place of RMSProp; Huber's loss on the error in place of clipping its gradient; ReLU networks for vectors; returns of
n steps are not corrected for the policy that played them, as in Hessel et al. 2018, arXiv:1710.02298.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor

from ray_jobs.recipe.ranges import Count, Finite, NotNegative, Part, Positive, Share, Threshold, Whole
from ray_jobs.rl.contract import Act, Log, Optimizers, Replay, Transitions, World
from ray_jobs.rl.maths import draws
from ray_jobs.rl.networks.agents import QAgent
from ray_jobs.rl.networks.critics import overwrite, slow_q
from ray_jobs.rl.networks.returns import Atoms, Means, Quantiles, Returns
from ray_jobs.rl.optim.step import adam, gradient_step


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
    dueling: bool = False
    """Let the network sum a value of the state and advantages of actions."""
    atoms: Whole = 0
    """Returns to which the network gives probabilities (C51); 0: none. 51 in the paper."""
    low: Finite = -10.0
    """The least return of the atoms."""
    high: Finite = 10.0
    """The largest."""
    quantiles: Whole = 0
    """Quantiles of the return that the network tells (QR-DQN); 0: none. 200 in the paper."""
    target_every: Count = 128
    """Updates between copies of the online network into the target."""
    explore_for: Part = 0.16
    """Share of the training over which epsilon falls."""
    epsilon: Share = 0.04
    """Probability of a random action after that."""
    error_clip: Threshold = 1.0
    """Where the loss turns from square to linear, of quantiles too: at 1, few bad ends are outvoted by many steps before them."""
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
        if self.atoms == 1 or self.low >= self.high or (self.atoms and self.quantiles):
            raise ValueError(
                "DQN takes 2 atoms or more, low below high, or quantiles, not both: "
                f"atoms {self.atoms} of {self.low:g} to {self.high:g}, quantiles {self.quantiles}."
            )
        return QAgent(obs, int(action.n), self.width, self.dueling, self.returns.size)

    @property
    def returns(self) -> Returns:
        """What the network's outputs say about returns."""
        if self.atoms:
            return Atoms(self.atoms, self.low, self.high)
        return Quantiles(self.quantiles, self.error_clip) if self.quantiles else Means(self.error_clip)

    def optimizers(self, agent: QAgent) -> Optimizers:
        return {"q": adam(agent.q, self.lr)}

    def act(self, agent: QAgent, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        q = self.returns.mean(agent.q(agent.encode(obs)))
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
        out, after = agent.q(agent.encode(data.obs)), agent.encode(data.next_obs)
        with torch.no_grad():
            slow = slow_q(agent.target, after, self.target_every - optimizer.steps % self.target_every)
            chooser = self.returns.mean(agent.q(after)) if self.double else None
        loss, q, error = self.returns.regress(out, data, slow, chooser)
        gradient_step(loss, optimizer, world, self.max_norm)
        if optimizer.steps % self.target_every == 0:
            overwrite(agent.target.parameters(), agent.q.parameters())
        log = {"td_loss": loss.detach(), "q": q.mean(), "epsilon": agent.epsilon}
        return log | ({"priority": error} if self.priority else {})
