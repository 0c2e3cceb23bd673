"""What is learned from games of self-play: the window of positions, the loss and its steps.

Source: Silver et al. 2017, doi:10.1038/nature24270, equation 1 and methods (optimisation).
Differs: positions are turned and mirrored when they are learned from, not when they are evaluated. Without momentum the optimiser is Adam.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ray_jobs.rl.fast.flat_weights import flatten
from ray_jobs.rl.optim.adam import Adam
from ray_jobs.self_play.games.game import Symmetry
from ray_jobs.self_play.networks import PolicyValue


class Positions(NamedTuple):
    """Positions with what the search and the game's end say about them, the oldest first."""

    observations: NDArray[np.int8]
    """[P, planes, rows, columns]"""
    policy: NDArray[np.float32]
    """[P, moves]: visits of the search as probabilities."""
    outcome: NDArray[np.float32]
    """[P]: 1 where the player to move won in the end, -1 where they lost, 0 drawn."""

    def then(self, others: Sequence[Positions], window: int) -> Positions:
        """The newest `window` positions of these and of others that follow."""
        return Positions(*(np.concatenate(parts)[-window:] for parts in zip(self, *others, strict=True)))


class Steps(NamedTuple):
    """How the weights are changed."""

    batch: int
    lr: float
    momentum: float
    """Of stochastic gradient descent; 0: Adam."""
    l2: float
    """Weight of the squared parameters in the loss."""
    drops: tuple[int, ...]
    """Updates after which the step size is divided by 10."""


class Averages(NamedTuple):
    """What the optimiser keeps, besides the number of updates."""

    first: NDArray[np.float32]
    """[P]: the moving average of the gradient; of gradient descent, the velocity."""
    second: NDArray[np.float32]
    """[P]: the moving average of the squared gradient; [0] where there is none."""

    @classmethod
    def begin(cls, parameters: int, momentum: float) -> Averages:
        """Zeros."""
        return cls(np.zeros(parameters, np.float32), np.zeros(0 if momentum else parameters, np.float32))


class Losses(NamedTuple):
    """The parts of the loss [] each."""

    value: Tensor
    policy: Tensor
    l2: Tensor


def losses(net: PolicyValue, observations: Tensor, policy: Tensor, outcome: Tensor, l2: float) -> Losses:
    """(z - v)^2, -pi' log p, both averaged over the batch, and c |theta|^2.

    Args:
        observations: [B, planes, rows, columns]
        policy: pi [B, moves], the search's visits as probabilities.
        outcome: z [B], 1 where the player to move won.
        l2: c.

    Source: Silver et al. 2017, equation 1.
    """
    logits, value = net(observations)
    cross_entropy = -(policy * logits.log_softmax(1)).sum(1).mean()
    squares = sum((p.square().sum() for p in net.parameters()), torch.zeros(()))
    return Losses(F.mse_loss(value, outcome), cross_entropy, l2 * squares)


class Momentum:
    """Stochastic gradient descent with momentum, over one vector of parameters [P] that has a gradient."""

    def __init__(self, flat: Tensor, lr: float, momentum: float, velocity: Tensor) -> None:
        self.flat, self.lr, self.momentum, self.velocity = flat, lr, momentum, velocity

    @torch.no_grad()
    def step(self) -> None:
        """v <- m v + g, theta <- theta - lr v."""
        assert self.flat.grad is not None
        self.velocity.mul_(self.momentum).add_(self.flat.grad)
        self.flat.sub_(self.velocity, alpha=self.lr)


def optimizer(flat: Tensor, how: Steps, averages: Averages, done: int) -> Adam | Momentum:
    """The optimiser after `done` updates; it changes the arrays of `averages` in place."""
    first, second = (torch.from_numpy(x) for x in averages)
    if how.momentum:
        return Momentum(flat, how.lr, how.momentum, first)
    made = Adam(flat, how.lr)
    made.steps, made.first, made.second = done, first, second
    return made


def learn(
    net: PolicyValue,
    positions: Positions,
    symmetries: Sequence[Symmetry],
    how: Steps,
    averages: Averages,
    done: int,
    updates: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Make so many updates, in place; the means of the loss's parts.

    Args:
        symmetries: each position of a batch is seen through one of them, drawn at random.
        averages: of the optimiser; changed in place.
        done: updates before these.
        rng: draws positions and symmetries.
    """
    flat, total = flatten(list(net.parameters())), np.zeros(3)
    optimiser = optimizer(flat, how, averages, done)
    net.train()
    for update in range(done, done + updates):
        optimiser.lr = how.lr * 0.1 ** sum(update >= drop for drop in how.drops)
        batch = seen_through(symmetries, positions, rng.integers(len(positions.outcome), size=how.batch), rng)
        parts = losses(net, *batch, how.l2)
        flat.grad.zero_()  # type: ignore[union-attr]
        sum(parts[1:], parts[0]).backward()
        optimiser.step()
        total += [part.item() for part in parts]
    names = ("value_loss", "policy_loss", "l2_loss")
    return {name: float(x) for name, x in zip(names, total / max(updates, 1), strict=True)}


def seen_through(
    symmetries: Sequence[Symmetry], positions: Positions, rows: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The positions of `rows`, each through a symmetry that is drawn at random, with the moves of the policy renamed alike."""
    which = rng.integers(len(symmetries), size=len(rows))
    cells, moves = (np.stack(orders)[which] for orders in zip(*symmetries, strict=True))
    observed = positions.observations[rows]
    flat = observed.reshape(*observed.shape[:2], -1)
    turned = np.take_along_axis(flat, cells[:, None, :], 2).reshape(observed.shape)
    policy = np.take_along_axis(positions.policy[rows], moves, 1)
    return tuple(torch.from_numpy(x).float() for x in (turned, policy, positions.outcome[rows]))  # type: ignore[return-value]
