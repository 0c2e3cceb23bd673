"""A recipe: what to train, on what, for how long, and what it must reach.

A recipe is a module with a docstring (its first line is the title), a `headline`, a `claim` (or None), optionally a
search `space`, and one function `recipe(*, ...)` whose keyword arguments are its settings. Optional `variants` are the
same recipe on other data, each with its own claim: '<recipe>@<variant>' names one wherever a recipe is named. The module
imports nothing heavy at its top: its settings must be known, and a wrong one refused, before torch is imported. What is
heavy is imported inside `recipe`.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import lightning as L

    from lightning_modules.model import Generative
    from ray_jobs.rl.contract import Algorithm

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"]

Matmul = Literal["float32", "bfloat16"]


class UsageError(Exception):
    """What the user asked for cannot be: one sentence says what was wrong and what is allowed (exit code 2)."""


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


def names() -> list[str]:
    """Every recipe's short name, found by looking into `ray_jobs/recipes`, each followed by its variants'."""
    return [name for n in sorted(_paths()) for name in (n, *(f"{n}@{v}" for v in getattr(module(n), "variants", {})))]


def _paths() -> dict[str, str]:
    """The import path of every recipe's module, by its short name; each family is a package."""
    from ray_jobs import recipes

    families = [m.name for m in pkgutil.iter_modules(recipes.__path__) if m.ispkg]
    return {
        m.name: f"ray_jobs.recipes.{family}.{m.name}"
        for family in families
        for m in pkgutil.iter_modules([f"{root}/{family}" for root in recipes.__path__])
    }


def module(name: str) -> ModuleType:
    """The module of a recipe, by short name ('ddpm_digits'), import path ('mylab.recipes.mine') or as either's variant ('...@moons').

    Raises:
        UsageError: there is no such recipe; the sentence names the nearest.
    """
    base, _, which = name.partition("@")
    found = _imported(base)
    if not which:
        return found
    variants = getattr(found, "variants", {})
    if which not in variants:
        raise UsageError(unknown("recipe", name, [base, *(f"{base}@{v}" for v in variants)]))
    return _varied(found, name, variants[which])


def _varied(of: ModuleType, name: str, variant: Variant) -> ModuleType:
    """A module as `of`, but for what the variant says."""
    title, _, text = (of.__doc__ or "").partition("\n")
    made = ModuleType(name, f"{title.rstrip('.')}; {variant.data}.\n{text}")
    own = {"__doc__": made.__doc__, "__name__": name, "data": variant.data, "claim": variant.claim}
    vars(made).update(vars(of) | own | {"recipe": _with_defaults(of.recipe, variant.settings)})
    return made


def _with_defaults(f: FunctionType, defaults: Mapping[str, Any]) -> FunctionType:
    """The same function with other defaults of its keyword arguments."""
    made = FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
    functools.update_wrapper(made, f)
    del made.__wrapped__  # type: ignore[attr-defined]  # or its signature would be that of f
    made.__kwdefaults__ = (f.__kwdefaults__ or {}) | dict(defaults)
    return made


def _imported(name: str) -> ModuleType:
    """The module that a recipe is, without a variant."""
    path = name if "." in name else _paths().get(name, f"ray_jobs.recipes.{name}")
    try:
        found = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not (path == error.name or path.startswith(error.name + ".")):
            raise
        raise UsageError(unknown("recipe", name, names())) from None
    if not callable(getattr(found, "recipe", None)):
        raise UsageError(f"{name} is not a recipe: the module {path} has no function 'recipe'.")
    return found


def unknown(what: str, given: str, allowed: list[str], *, of: str = "") -> str:
    """One sentence: there is no such `what` (of some owner); did you mean the nearest; these are allowed."""
    near = difflib.get_close_matches(given, allowed, n=1, cutoff=0.6)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    head = f"{of} has no {what} '{given}'." if of else f"There is no {what} '{given}'."
    return f"{head}{hint} Allowed: {', '.join(allowed)}."


def kind(name: str) -> type[Fit] | type[Play]:
    """What the recipe returns, by its annotation, without building it."""
    result = inspect.signature(module(name).recipe).return_annotation
    return {"Fit": Fit, "Play": Play}[result if isinstance(result, str) else result.__name__]
