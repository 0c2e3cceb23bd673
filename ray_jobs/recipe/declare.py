"""Recipes as they are declared: a plan, its paper's headline, our claim, and variants on other data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ray_jobs.recipe.plan import Fit


@dataclass(frozen=True)
class Headline:
    """The paper's own result, for the recipe at the paper's scale."""

    paper: str
    arxiv: str = ""
    metric: str = ""
    value: float | None = None
    where: str = ""
    """Table, section or page of the paper."""


@dataclass(frozen=True)
class Claim:
    """The bound that the mean of `metric` (a key of the run's result) over `seeds` must reach; exactly one bound is given."""

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
    """A recipe on other data or with other settings, with a claim of its own: 'recipe@variant'."""

    data: str
    claim: Claim | None
    settings: Mapping[str, Any]
    """Settings whose defaults differ."""
    headline: Headline | None = None
    """The paper's number for this data; by default the recipe's own."""


@dataclass(frozen=True)
class Recipe:
    """One reproduction: a system on data or an environment, with settings, the paper's headline and our claim.

    `recipe = Recipe("PPO balances a pole.", Play("ppo:PPO", ...), system="PPO", ...)` for an agent or a study; a model is
    built by a function whose keyword arguments are settings, see `fit`.
    """

    title: str
    plan: Any
    """The plan as data, or a function whose keyword arguments are settings and that returns a plan."""
    system: str
    """Name of the published method."""
    headline: Headline
    data: str = ""
    """Data set or environment; an agent's environment by default."""
    claim: Claim | None = None
    space: Mapping[str, str] = field(default_factory=dict)
    """Search space of `reprise tune`."""
    variants: Mapping[str, Variant] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of settings where they differ from the plan's own."""
    text: str = ""
    """A longer description than the title."""
    tune_metric: str = ""
    """Logged metric by which trials are compared before their end; by default the kind's own."""
    tune_mode: str = ""
    """Whether less ('min') or more ('max') of `tune_metric` is better."""
    needs: Mapping[str, str] = field(default_factory=dict)
    """Runs that this one can start from: a part's name, and the recipe whose averaged weights it takes (`--start NAME=RUN`)."""
    name: str = ""
    """As users write it; the loader fills it in."""
    module: str = ""
    """Import path of the module that declares it; the loader fills it in."""

    def __post_init__(self) -> None:
        if not self.data and not callable(self.plan):
            object.__setattr__(self, "data", getattr(self.plan, "env", ""))

    @property
    def family(self) -> str:
        """The folder that it is in, of `ray_jobs/recipes` or `rl/algorithms`; 'own' for a user's."""
        return self.module.split(".")[-2] if self.module.startswith("ray_jobs.") else "own"


def fit(
    *,
    system: str,
    headline: Headline,
    data: str,
    claim: Claim | None = None,
    space: Mapping[str, str] | None = None,
    variants: Mapping[str, Variant] | None = None,
    needs: Mapping[str, str] | None = None,
    tune_metric: str = "",
    tune_mode: str = "",
    **defaults: Any,
) -> Callable[[Callable[..., Any]], Recipe]:
    """Declare the recipe of a model: a decorator of a function whose keyword arguments are its settings.

    The function's docstring gives the title and, under `Args:`, the help. It returns `Fit(model, data, evaluate)`; an argument
    without a default that has the name of an option of `Fit`, such as `steps`, receives that option's value.

    Args:
        system: name of the published method.
        headline: the paper's own number.
        data: the data set, in words.
        claim: the bound to reach, or None.
        space: search space of `reprise tune`.
        variants: the same recipe on other data.
        needs: runs that it can start from.
        tune_metric, tune_mode: see `Recipe`.
        defaults: this recipe's defaults of the options of `Fit`, such as steps=2000, batch=512, lr=1e-3.

    Raises:
        TypeError: a default is no option of `Fit`.
    """
    options = {f.name for f in fields(Fit)} - {"model", "data", "evaluate"}
    if unknown := sorted(set(defaults) - options):
        raise TypeError(f"{unknown[0]} is no option of Fit: {', '.join(sorted(options))}")

    def declare(function: Callable[..., Any]) -> Recipe:
        title, _, rest = (function.__doc__ or "").strip().partition("\n")
        text = rest.partition("Args:")[0].strip()
        return Recipe(
            title, function, system, headline, data, claim, space or {}, variants or {}, defaults, text,
            tune_metric, tune_mode, needs or {},
        )  # fmt: skip

    return declare
