"""A recipe: what to train, on what, for how long, and what it must reach.

A recipe is a module with a docstring (its first line is the title), a `headline`, a `claim` (or None), optionally a
search `space`, and one function `recipe(*, ...)` whose keyword arguments are its settings. Optional `variants` are the
same recipe on other data, each with its own claim: '<recipe>@<variant>' names one wherever a recipe is named. The module
imports nothing heavy at its top: its settings must be known, and a wrong one refused, before torch is imported. What is
heavy is imported inside `recipe`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import lightning as L

    from lightning_modules.model import Generative
    from ray_jobs.rl.contract import Algorithm

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"]

Matmul = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Headline:
    """The paper's own number, for the recipe at the paper's scale."""

    paper: str
    arxiv: str = ""
    metric: str = ""
    value: float | None = None
    where: str = ""
    """Table, section or page of the paper."""


@dataclass(frozen=True)
class Claim:
    """What the mean over `seeds` of `metric` (a key of the run's result) must reach; exactly one bound is given."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    seeds: int = 5

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"a claim on {self.metric} needs exactly one of at_least and at_most")

    def holds(self, value: float) -> bool:
        """Whether `value` is on the right side of the bound; never for NaN."""
        return value >= self.at_least if self.at_least is not None else value <= self.at_most  # type: ignore[operator]

    def __str__(self) -> str:
        bound = f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"
        return f"{self.metric} {bound}"


@dataclass(frozen=True)
class Variant:
    """A recipe on other data: all is the recipe's own but what stands here."""

    data: str
    claim: Claim | None
    settings: Mapping[str, Any]
    """Those whose defaults differ."""


@dataclass(frozen=True)
class Fit:
    """Training of a generative model by Lightning. `model` is built untrained, `data` not yet set up."""

    model: Generative
    data: L.LightningDataModule
    steps: int
    """Optimiser steps; of a game, its generator's."""
    evaluate: Callable[[Generative, L.LightningDataModule], dict[str, float]] | None = None
    """Metrics of the trained (averaged, where EMA is on) model, measured at the end and by `reprise evaluate`."""
    ema: float = 0.0
    """Decay of the exponential moving average of the weights per step; 0 switches it off."""
    grad_clip: float = 0.0
    """Largest norm of the gradient; 0 does not clip."""
    accumulate: int = 1
    """Micro-batches that make up one global batch on each worker."""
    precision: Precision = "32-true"
    """Lightning's precision of weights and computation."""
    compile: bool = False
    """Run the model's forward through torch.compile."""
    save_every: int = 500
    """Steps between checkpoints."""
    log_every: int = 20
    """Steps between logged metrics."""


@dataclass(frozen=True)
class Play:
    """Training of a reinforcement-learning agent on environments."""

    algorithm: Algorithm
    env: str
    """Gymnasium's id, or 'package.module:function' that makes one environment, Gymnasium's or PettingZoo's parallel."""
    steps: int
    """Environment steps, over all runners together."""
    envs: int = 8
    """Parallel environments, over all runners together."""
    env_options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment; Atari's are those of `ray_jobs.envs.atari.Atari`."""
    normalize_obs: bool = False
    """Shift and scale observations by their running mean and deviation."""
    normalize_reward: bool = False
    """Scale rewards by the running deviation of the discounted return."""
    matmul: Matmul = "float32"
    """What the factors of matrix products are rounded to in updates, where the CPU has units for it; sums and weights stay float32.
    bfloat16 is faster and may learn worse: TD3 scored -685 on Pendulum with it, at one seed."""
    stop_return: float | None = None
    """Stop early once the mean return of the last 100 training episodes reaches this."""
    eval_episodes: int = 100
    """Episodes of the final evaluation, greedy, on environments apart from the training ones."""
    save_every: int = 50_000
    """Environment steps between checkpoints."""
    log_every: int = 2_000
    """Environment steps between logged metrics."""
