"""Deep Q-learning with a target network; double Q-learning, prioritised replay and returns of n steps are options.

Source: Mnih et al. 2015, doi:10.1038/nature14236, algorithm 1; van Hasselt et al. 2016, arXiv:1509.06461, eq. 4;
Schaul et al. 2016, arXiv:1511.05952, algorithm 1; Sutton & Barto 2018, eq. 7.1.
Differs: Adam in place of RMSProp; Huber's loss on the error in place of clipping its gradient; ReLU networks for vectors; returns of
n steps are not corrected for the policy that played them, as in Hessel et al. 2018, arXiv:1710.02298.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import gymnasium as gym
import torch
from torch import Tensor, nn

from ray_jobs.rl.batches import split
from ray_jobs.rl.contract import Act, Replay, Transitions, World
from ray_jobs.rl.maths import draws
from ray_jobs.rl.maths.value_losses import huber, huber_slope, q_target
from ray_jobs.rl.networks.critics import overwrite
from ray_jobs.rl.networks.nets import ConvNet, image, mlp
from ray_jobs.rl.optim.adam import Adam
from ray_jobs.rl.optim.step import adam, descend_along

AT_ONCE = 16
"""Updates that one pass of the target network serves, at most: more would not fit a processor's cache, or memory if they see images."""


class QAgent(nn.Module):
    """Q [B, A] of observations [B, *O], its slow copy, and how often to explore, which travels with the weights."""

    def __init__(self, obs: gym.spaces.Box, actions: int, width: int) -> None:
        super().__init__()
        self.image = image(obs)
        if self.image:
            self.q: nn.Module = ConvNet(obs.shape, actions, top=float(obs.high.max()))
        else:
            self.q = mlp([math.prod(obs.shape), width, width, actions], activation=nn.ReLU)
        self.target = copy.deepcopy(self.q).requires_grad_(False)
        self.register_buffer("epsilon", torch.ones(()))

    @property
    def acting(self) -> nn.Module:
        """What a runner needs: without the slow copy."""
        part = nn.Module()
        part.q = self.q
        part.register_buffer("epsilon", self.epsilon)
        return part

    def flat(self, obs: Tensor) -> Tensor:
        """[B, *O] -> [B, n]; images stay as they are."""
        return obs if self.image else obs.flatten(1)


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
    priority: float = 0.0
    """Exponent of the errors in proportion to which transitions are drawn; 0 draws evenly."""
    n_step: int = 1
    """Steps whose rewards a target sums, at most."""
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
    """Units in each of two hidden layers; the network of images has its own."""

    @property
    def experience(self) -> Replay:
        return Replay(
            self.capacity,
            self.batch,
            self.warmup,
            self.every,
            self.updates,
            n_step=self.n_step,
            priority=self.priority,
            at_once=self.at_once,
        )

    @property
    def at_once(self) -> int:
        """Updates that one pass of the target network serves: only the last may copy into it, and none draws by the others' errors."""
        both = math.gcd(self.updates, self.target_every)
        return 1 if self.priority else max(n for n in range(1, AT_ONCE + 1) if both % n == 0)

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> QAgent:
        if not isinstance(action, gym.spaces.Discrete) or action.start != 0:
            raise ValueError(
                f"DQN needs a Discrete action space that starts at 0, and this is {action}: take PPO, say."
            )
        return QAgent(obs, int(action.n), self.width)

    def optimizers(self, agent: QAgent) -> dict[str, Adam]:
        return {"q": adam(agent.q, self.lr)}

    def act(self, agent: QAgent, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        q = agent.q(agent.flat(obs))
        best = q.argmax(-1)
        if not explore:
            return Act(best, {})
        other = draws.integers(q.shape[-1], best.shape, rng).to(q.device)
        wander = draws.uniform(best.shape, rng).to(q.device) < agent.epsilon
        return Act(torch.where(wander, other, best), {})

    def update(
        self, agent: QAgent, optimizers: Mapping[str, Adam], data: Transitions, world: World
    ) -> dict[str, Tensor]:
        optimizers["q"].param_groups[0]["lr"] = self.lr * (1 - world.progress if self.anneal else 1)
        agent.epsilon.fill_(1 - (1 - self.epsilon) * min(1.0, world.progress / self.explore_for))
        with torch.no_grad():
            known = agent.target(agent.flat(data.next_obs))
            share = share_of(data, known.shape[-1], self.batch)
            known = known if self.double else q_target(data.reward, data.discount, known)
        parts = split(data, self.batch), known.split(self.batch), share.split(self.batch)
        for batch, known_of_it, its_share in zip(*parts, strict=True):
            q, target = self.step(agent, optimizers["q"], batch, known_of_it, its_share, world)
        if optimizers["q"].steps % self.target_every == 0:
            overwrite(agent.target.parameters(), agent.q.parameters())
        q = q.gather(-1, batch.action[..., None]).squeeze(-1)
        loss = (batch.weight * huber(q, target, self.error_clip)).mean()
        log = {"td_loss": loss, "q": q.mean(), "epsilon": agent.epsilon}
        return log | ({"priority": (q - target).abs()} if self.priority else {})

    def step(
        self, agent: QAgent, optimizer: Adam, data: Transitions, known: Tensor, share: Tensor, world: World
    ) -> tuple[Tensor, Tensor]:
        """One gradient step: Q(s, .) [N, A] before it, and its targets [N].

        Args:
            known: the targets; if the online network chooses actions for them, the slow one's Q(s', .) [N, A].
            share: of each Q(s, .) in the loss [N, A].
        """
        if self.double:
            with torch.no_grad():
                known = q_target(data.reward, data.discount, known, agent.q(agent.flat(data.next_obs)))
        slope, seen = partial(td_slope, self.error_clip), (known, share)
        return descend_along(slope, agent.q, (agent.flat(data.obs),), seen, optimizer, world, self.max_norm), known


def share_of(data: Transitions, actions: int, batch: int) -> Tensor:
    """Of each Q(s, .) in a loss that is the mean over a batch [N, A]; in memory as [A, N], as what several networks say lies."""
    return ((torch.arange(actions, device=data.action.device)[:, None] == data.action) * (data.weight / batch)).mT


def td_slope(clip: float, q: Tensor, target: Tensor, share: Tensor) -> Tensor:
    """The loss's gradient by Q [*, N, A]: the clipped errors, by their shares [*, N, A]; targets are [*, N]."""
    return huber_slope(q, target[..., None], clip).mul_(share)
