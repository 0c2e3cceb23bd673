"""The contract between an algorithm and the runtime that feeds it.

An algorithm is a frozen dataclass whose fields are its hyperparameters; it keeps nothing else. Networks, optimisers, data and
generators are passed in, so that the same object serves a learner, a runner and an evaluation on three machines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import torch
from torch import Tensor, nn


class Act(NamedTuple):
    """The actions of a policy in B environments."""

    action: Tensor
    """[B, *A]"""
    extras: Mapping[str, Tensor]
    """Each [B, ...]; stored with the step, and passed to `update`."""


class Steps(NamedTuple):
    """T consecutive steps of B environments, without reset steps: the observation after a boundary begins the next episode."""

    obs: Tensor
    """[T+1, B, *O]; the action of row t was chosen from row t; row T comes after the last step."""
    action: Tensor
    """[T, B, *A]"""
    reward: Tensor
    """[T, B], or [T, B, N] of N agents"""
    terminated: Tensor
    """[T, B] bool: the task ended; nothing has value after it."""
    truncated: Tensor
    """[T, B] bool: a time limit cut the episode, and the task did not end."""
    last_obs: Tensor
    """[K, *O]: the true last observations of the K truncated steps, in the order of `truncated.nonzero()`."""
    extras: Mapping[str, Tensor]
    """Each [T, B, ...]."""

    @property
    def boundary(self) -> Tensor:
        """[T, B] bool: the last step of an episode, for either reason."""
        return self.terminated | self.truncated

    @property
    def carry(self) -> Tensor:
        """[T, B] float: 1 within an episode, 0 at its last step: what is summed over time stops there."""
        return 1.0 * ~self.boundary

    def discount(self, gamma: float) -> Tensor:
        """[T, B]: the weight of the next state's value: gamma, or 0 where the task ended."""
        return gamma * ~self.terminated


class Transitions(NamedTuple):
    """N transitions of one step, or of several consecutive steps, from a replay buffer."""

    obs: Tensor
    """[N, *O]"""
    action: Tensor
    """[N, *A]"""
    reward: Tensor
    """[N], or [N, agents]: the discounted sum over the steps."""
    next_obs: Tensor
    """[N, *O]: the true observation after the last step, at a truncation too."""
    discount: Tensor
    """[N]: weight of the value of `next_obs`: gamma to the power of the steps; 0 where the task ended."""
    weight: Tensor
    """[N]: importance weights in the loss, at most 1; all 1 where transitions were drawn uniformly."""
    extras: Mapping[str, Tensor]
    """Each [N, ...]"""


@dataclass(frozen=True)
class Fresh:
    """On-policy: each update sees `horizon` new steps of every environment, once, made by the policy it improves."""

    horizon: int
    keep: int = 0
    """After so many updates, `reflect` gets the Steps of all of them, oldest first; 0: never."""


@dataclass(frozen=True)
class Stream:
    """Asynchronous: each update sees one runner's `horizon` steps as they arrive; their policy may be a few updates old."""

    horizon: int


@dataclass(frozen=True)
class Replay:
    """Off-policy: `updates` batches of `batch` transitions for every `every` new steps of all environments together."""

    capacity: int
    """Steps kept; the oldest go first."""
    batch: int
    """Transitions, or sequences, of one update."""
    warmup: int
    """Steps before the first update."""
    every: int = 1
    updates: int = 1
    n_step: int = 1
    """Steps whose rewards a transition sums, at most."""
    length: int = 0
    """Updates get Steps [length, batch], each column a sequence from anywhere in the buffer; with 0 they get Transitions."""
    newest: bool = False
    """The first update of every round gets the round's own Steps, once, as they were played."""
    priority: float = 0.0
    """Transitions are drawn in proportion to their errors to this power, which `update` returns as 'priority' [N]; 0 is uniform."""
    importance: float = 0.4
    """Exponent of the importance weights that correct for it, at the start; it rises to 1."""
    asynchronous: bool = False
    """Runners never wait: their steps are stored as they arrive; their policy may be a few updates old."""


@dataclass(frozen=True)
class Gradients:
    """Asynchronous: each runner differentiates `loss` over its `horizon` steps, and each update applies one runner's gradient."""

    horizon: int


class Gradient(NamedTuple):
    """The gradient that a runner computed from its steps."""

    flat: Tensor
    """[P]: the gradient of `loss`, in the order of the agent's parameters."""
    log: Mapping[str, Tensor]
    """Scalars []."""


Experience = Fresh | Stream | Replay | Gradients


class World(Protocol):
    """The surroundings of an update: the other learners, a generator, and the training's progress."""

    rng: torch.Generator
    """The learner's own generator, on the CPU."""
    progress: float
    """Share of the training's environment steps that are done, 0 to 1."""
    size: int
    """Number of learners."""
    rank: int
    """Index of this learner."""

    def mean(self, x: Tensor) -> Tensor:
        """The mean over learners, the same on each; gradients and Fisher products alike. Not differentiable."""
        ...

    def gather(self, x: Any) -> list[Any]:
        """Every learner's x, in order, on the first learner; an empty list on the others."""
        ...


@dataclass
class Alone:
    """A single learner."""

    rng: torch.Generator
    progress: float = 0.0
    size: int = 1
    rank: int = 0

    def mean(self, x: Tensor) -> Tensor:
        """The mean over one learner is the identity."""
        return x

    def gather(self, x: Any) -> list[Any]:
        """The one learner's x."""
        return [x]


class Optimizer(Protocol):
    """An optimiser of some of an agent's parameters, as `optim.step` makes them."""

    param_groups: list[dict[str, Any]]
    lr: float
    """Step size."""

    @property
    def gradient(self) -> Tensor:
        """[P], of all its parameters in order."""
        ...

    def differentiate(self, loss: Tensor) -> None:
        """Write the gradient of a scalar loss, over what was there."""
        ...

    def average(self, mean: Callable[[Tensor], Tensor]) -> None:
        """Replace the gradient by its mean over learners."""
        ...

    def clip(self, max_norm: float) -> None:
        """Shrink the gradient to the norm `max_norm`, if its own is larger."""
        ...

    def step(self) -> Any:
        """Move the parameters by one step down their gradient."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain types for a checkpoint."""
        ...

    def load_state_dict(self, state: Any, /) -> None:
        """Continue from a state."""
        ...


Optimizers = Mapping[str, Optimizer]
"""An agent's optimisers by name."""
Log = dict[str, Tensor]
"""Scalars to log, by name."""


class Algorithm(Protocol):
    """The interface of every algorithm."""

    @property
    def gamma(self) -> float:
        """Discount per step."""
        ...

    @property
    def experience(self) -> Experience:
        """The kind of data that an update needs."""
        ...

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> nn.Module:
        """The agent's networks, untrained. If a part of an agent is enough to act, it is the agent's attribute `acting`.

        Raises:
            ValueError: the action space is of a kind that the algorithm cannot handle.
        """
        ...

    def optimizers(self, agent: Any) -> Optimizers:
        """The optimisers of an agent's parameters, by name."""
        ...

    def act(self, agent: Any, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        """Actions for obs [B, *O]; greedy unless `explore`. Called without gradients."""
        ...

    def update(self, agent: Any, optimizers: Optimizers, data: Any, world: World) -> Log:
        """Improve the agent by `data`. Returns scalars to log, left on their device.

        `data` is Steps for Fresh, Stream and Replay of sequences, Transitions for other Replay, a Gradient for Gradients.
        """
        ...


def reason_not_together(algorithm: Algorithm) -> str:
    """Why several seeds of an algorithm cannot be updated by one call; empty where they can.

    It is the algorithm's own attribute `not_together`, a class variable or a property; the default is empty: its `update` draws its
    random numbers by `maths.draws`, steps by `optim.step`, and does not branch on values that differ between seeds.
    """
    return getattr(algorithm, "not_together", "")


class Reflective(Algorithm, Protocol):
    """An algorithm whose experience is Fresh with `keep`."""

    def reflect(self, agent: Any, optimizers: Optimizers, kept: Sequence[Steps], world: World) -> Log:
        """Improve the agent by the steps of the last `keep` updates. Returns scalars to log."""
        ...


class Differentiated(Algorithm, Protocol):
    """An algorithm whose experience is Gradients."""

    def loss(self, agent: Any, data: Steps) -> tuple[Tensor, Log]:
        """The loss [] that a runner differentiates, and scalars to log."""
        ...
