"""The contract between an algorithm and the runtime that feeds it.

An algorithm is a frozen dataclass whose fields are its hyperparameters; it keeps nothing else. Networks, optimisers, data and
generators are passed in, so that the same object serves a learner, a runner and an evaluation on three machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import torch
from torch import Tensor, nn


class Act(NamedTuple):
    """What a policy does in B environments."""

    action: Tensor
    """[B, *A]"""
    extras: Mapping[str, Tensor]
    """Each [B, ...]; stored beside the step and handed back to `update`."""


class Steps(NamedTuple):
    """T consecutive steps of B environments, without reset steps: the observation after a boundary begins the next episode."""

    obs: Tensor
    """[T+1, B, *O]; row t is acted on, row T is what comes next."""
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


class Transitions(NamedTuple):
    """N times one step, or a few in a row, from anywhere in a replay buffer."""

    obs: Tensor
    """[N, *O]"""
    action: Tensor
    """[N, *A]"""
    reward: Tensor
    """[N], or [N, agents]: discounted and summed over the steps."""
    next_obs: Tensor
    """[N, *O]: the true observation after them, at a truncation too."""
    discount: Tensor
    """[N]: of the value of `next_obs`, gamma to the power of the steps; 0 where the task ended."""
    weight: Tensor
    """[N]: of each in the loss, at most 1; all 1 where they were drawn uniformly."""
    extras: Mapping[str, Tensor]
    """Each [N, ...]"""


@dataclass(frozen=True)
class Fresh:
    """On-policy: each update sees `horizon` new steps of every environment, once, made by the policy it improves."""

    horizon: int
    keep: int = 0
    """After so many updates, `reflect` is handed all the Steps that they saw, oldest first; 0 never does."""


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
    """Updates see Steps [length, batch], each column a sequence from anywhere; 0 gives them Transitions."""
    newest: bool = False
    """The first update of every round sees the round's own Steps, once, as they were played."""
    priority: float = 0.0
    """Exponent of the errors in proportion to which transitions are drawn; `update` then returns them as 'priority' [N]. 0 is uniform."""
    importance: float = 0.4
    """Exponent of the importance weights that undo this, at the start; it rises to 1."""
    asynchronous: bool = False
    """Runners never wait: whatever arrives is stored, its policy may be a few updates old."""
    at_once: int = 1
    """Batches that `update` is handed as one [at_once * batch], to make as many updates of; fewer that are due wait for the others."""


@dataclass(frozen=True)
class Gradients:
    """Asynchronous: each runner differentiates `loss` over its `horizon` steps, and each update applies one runner's gradient."""

    horizon: int


class Gradient(NamedTuple):
    """What a runner learned from its steps."""

    flat: Tensor
    """[P]: the gradient of `loss`, in the order of the agent's parameters."""
    log: Mapping[str, Tensor]
    """Scalars []."""


Experience = Fresh | Stream | Replay | Gradients


class World(Protocol):
    """What surrounds an update: the other learners, a generator, and how far the training is."""

    rng: torch.Generator
    """The learner's own generator, on the CPU."""
    progress: float
    """Share of the training's environment steps that are done, 0 to 1."""
    size: int
    """Learners together."""
    rank: int
    """Which of them this is."""

    def mean(self, x: Tensor) -> Tensor:
        """The mean over learners, the same on each; gradients and Fisher products alike. Not differentiable."""
        ...

    def gather(self, x: Any) -> list[Any]:
        """Every learner's x, in order, on the first; nothing on the others."""
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
        return [x]


class Optimizer(Protocol):
    """What an update and a checkpoint need of one; every torch.optim.Optimizer has it."""

    param_groups: list[dict[str, Any]]

    def step(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Any, /) -> None: ...


class Algorithm(Protocol):
    """What the runtime asks of every algorithm."""

    @property
    def gamma(self) -> float:
        """Discount per step."""
        ...

    @property
    def experience(self) -> Experience:
        """Which data an update needs."""
        ...

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> nn.Module:
        """The agent's networks, untrained. An agent of which a part is enough to act has that part as `acting`.

        Raises:
            ValueError: the action space is of a kind that the algorithm cannot handle.
        """
        ...

    def optimizers(self, agent: Any) -> dict[str, Optimizer]: ...

    def act(self, agent: Any, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        """Actions for obs [B, *O]; greedy unless `explore`. Called without gradients."""
        ...

    def update(self, agent: Any, optimizers: Mapping[str, Optimizer], data: Any, world: World) -> dict[str, Tensor]:
        """Improve the agent by `data`; scalars to log, left on their device.

        `data` is Steps for Fresh, Stream and Replay of sequences, Transitions for other Replay, a Gradient for Gradients.
        """
        ...


class Reflective(Algorithm, Protocol):
    """Of an algorithm whose experience is Fresh with `keep`."""

    def reflect(
        self, agent: Any, optimizers: Mapping[str, Optimizer], kept: Sequence[Steps], world: World
    ) -> dict[str, Tensor]:
        """Improve the agent by the last `keep` updates' steps; scalars to log."""
        ...


class Differentiated(Algorithm, Protocol):
    """Of an algorithm whose experience is Gradients."""

    def loss(self, agent: Any, data: Steps) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss [] that a runner differentiates, and scalars to log."""
        ...
