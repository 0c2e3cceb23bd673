"""The definition of a search: recipe, space, number of trials and metric; checked in full before anything starts.

Two metrics steer a search. The *metric* is what is tuned: the claim's, and it alone ranks the finished trials. It is measured
on a validation part, never on the test part, because the best of many trials is partly the luckiest. The *progress* metric is
logged during training and lets a scheduler compare trials before their end: the recipe's `tune_metric` where it declares one,
else the training loss of a generative model (less is better) and the training return of an agent (more is better); a study
has none by itself. Nothing here knows Ray.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args

from ray_jobs.errors import UsageError, unknown
from ray_jobs.recipe import loading
from ray_jobs.recipe.declare import Claim, Recipe
from ray_jobs.recipe.plan import Layout
from ray_jobs.recipe.settings import check, known
from ray_jobs.recipe.spec import Where
from ray_jobs.run.files import write_json
from ray_jobs.tune.space import Dimension, count, parse, parse_all
from ray_jobs.tune.trials import Mode

SCHEDULERS = ("asha", "pbt", "none")
SEARCHES = ("random", "optuna")
FILE = "tune.json"
FIRST_RUNG, SURVIVORS = 12, 3
RUNGS = (FIRST_RUNG, FIRST_RUNG * SURVIVORS)
"""Percents of a trial's training at which ASHA compares it; one in SURVIVORS continues."""
LOGGED: dict[str, Mode] = {"loss": "min", "episode_return": "max"}
"""The directions of the metrics that every training of a kind logs."""


@dataclass(frozen=True)
class Search:
    """One search, as <out>/tune.json keeps it."""

    recipe: str
    space: Mapping[str, Any]
    """Setting to expression, as typed."""
    settings: Mapping[str, Any]
    """The settings that stay fixed."""
    trials: int
    scheduler: str
    search: str
    metric: str
    mode: Mode
    progress: str
    progress_mode: Mode
    seed: int
    where: Where
    start: Mapping[str, str] = field(default_factory=dict)
    """Runs that parts of each trial's model start from."""
    measured_on: str = "validation"
    """What trials are measured on, see `Spec.measured_on`."""

    @property
    def dimensions(self) -> dict[str, Dimension]:
        """The parsed space."""
        return {name: parse(name, text) for name, text in self.space.items()}

    @property
    def measured(self) -> str:
        """The tuned metric and what it is measured on, as tables show it."""
        if self.metric.startswith(("loss", "grad_norm", "train_")):
            return f"{self.metric} (train)"
        return f"{self.metric} (validation)" if self.measured_on == "validation" else self.metric

    @property
    def logged(self) -> str:
        """The progress metric and what it is measured on, as tables show it."""
        return f"{self.progress} (train)" if self.measured_on == "validation" else self.progress


def make(
    recipe: str,
    *,
    space: Mapping[str, Any],
    settings: Mapping[str, Any],
    trials: int | None,
    scheduler: str | None,
    search: str,
    metric: str | None,
    mode: str | None,
    seed: int,
    where: Where,
    start: Mapping[str, str] | None = None,
) -> Search:
    """The search that was asked for, with defaults from the recipe.

    Raises:
        UsageError: any part of it is wrong; nothing was started.
    """
    found = loading.recipe(recipe)
    scheduler = _scheduler(found, scheduler)
    _one_of("search", search, SEARCHES)
    fixed = check(recipe, settings, where)
    texts = {n.replace("-", "_"): t for n, t in (space or found.space).items()}
    if not space:  # a setting given by hand is taken out of the recipe's own space
        texts = {n: t for n, t in texts.items() if n not in fixed}
    dimensions = parse_all(texts, fixed, lambda values: check(recipe, values, where))
    _refuse_mixtures(dimensions, scheduler, search)
    claim = found.claim
    metric, direction = _metric(recipe, claim, metric, mode)
    progress, towards = _progress(found, metric, direction)
    total = count(dimensions, trials)
    return Search(
        recipe, texts, fixed, total, scheduler, search, metric, direction, progress, towards, seed, where, start or {},
        loading.kind(found).choosing,
    )  # fmt: skip


def _scheduler(recipe: Recipe, given: str | None) -> str:
    """The scheduler that was asked for; by default asha, and none where no logged metric can compare trials."""
    comparable = bool(recipe.tune_metric or loading.kind(recipe).progress)
    if given is None:
        return "asha" if comparable else "none"
    _one_of("scheduler", given, SCHEDULERS)
    if given != "none" and not comparable:
        raise UsageError(
            f"--scheduler {given} compares trials before their end, and {recipe.name} logs no metric that allows it: "
            "take --scheduler none."
        )
    return given


def _one_of(what: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise UsageError(unknown(what, given, list(allowed)))


def _refuse_mixtures(space: Mapping[str, Dimension], scheduler: str, search: str) -> None:
    grids = [name for name, d in space.items() if d.form == "grid"]
    if search == "optuna" and grids:
        raise UsageError(
            f"--search optuna chooses values itself: write choice(...) instead of grid(...) for '{grids[0]}'."
        )
    if search == "optuna" and scheduler == "pbt":
        raise UsageError(
            "--scheduler pbt changes settings during training and takes no --search optuna: take --search random."
        )


def _metric(recipe: str, claim: Claim | None, metric: str | None, mode: str | None) -> tuple[str, Mode]:
    if mode is not None:
        _one_of("mode", mode, get_args(Mode))
    if metric is None and claim is None:
        raise UsageError(f"{recipe} makes no claim, so say what to tune: --metric NAME --mode min|max.")
    name = metric or (claim.metric if claim else "")
    if mode is not None:
        return name, "max" if mode == "max" else "min"
    if claim and name == claim.metric:
        return name, "max" if claim.at_least is not None else "min"
    if name in LOGGED:
        return name, LOGGED[name]
    raise UsageError(f"Whether more or less of '{name}' is better is not known: add --mode min or --mode max.")


def _progress(recipe: Recipe, metric: str, mode: Mode) -> tuple[str, Mode]:
    """The metric by which trials are compared before their end, and its direction."""
    name = recipe.tune_metric or loading.kind(recipe).progress or metric
    towards = recipe.tune_mode or LOGGED.get(name)
    if name == metric:
        return name, mode
    if towards is None:
        raise UsageError(f"{recipe.name} declares tune_metric = '{name}' without tune_mode = 'min' or 'max'.")
    return name, "max" if towards == "max" else "min"


def default_out(search: Search) -> Path:
    """The default folder of a search: the same for the same search, so that the same command continues it."""
    plan = {k: v for k, v in asdict(search).items() if k not in ("where", "trials")}
    tag = hashlib.sha256(json.dumps(plan, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return Path("runs") / f"tune-{search.recipe.split('.')[-1]}-{tag}"


def load(out: Path) -> Search | None:
    """The search that a folder holds, or None.

    Raises:
        UsageError: its tune.json is damaged.
    """
    try:
        record = json.loads((out / FILE).read_text())
        before = {"measured_on": "test"}  # searches of earlier versions chose on it
        return Search(**before | record | {"where": Where(**record["where"])})
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise UsageError(f"{out / FILE} is damaged ({error}): choose another --out.") from None


def refuse_others(out: Path, search: Search) -> Search | None:
    """The earlier state of this search that a folder holds; None where the folder is free.

    Raises:
        UsageError: it holds something else.
    """
    before = load(out)
    if before is None and (out / "run.json").exists():
        raise UsageError(f"{out} holds a run, not a search: choose another --out.")
    if before is not None:
        ours = json.loads(json.dumps(asdict(search), default=str))
        theirs = json.loads(json.dumps(asdict(before), default=str))
        for field in (f.name for f in fields(Search) if f.name not in ("where", "trials")):
            if ours[field] != theirs[field]:
                raise UsageError(
                    f"{out} holds another search: its {field} is {theirs[field]!r}, not {ours[field]!r}; "
                    f"choose another --out, or continue it by 'reprise tune --resume {out}'."
                )
    return before


def enter(out: Path, search: Search) -> Search:
    """Write a search into its folder, a new one or the one to continue; the number of trials may have grown since.

    Raises:
        UsageError: it holds something else.
    """
    if before := refuse_others(out, search):
        search = replace(search, trials=max(search.trials, before.trials))
    try:
        write_json(out / FILE, asdict(search))
    except OSError as error:
        raise UsageError(f"The folder {out} cannot be written ({error.strerror}): choose another --out.") from None
    return search


def saving(search: Search) -> dict[str, Any]:
    """Settings that make trials checkpoint ten times, as population-based training needs; a `save_every` of the user stays."""
    settings = known(search.recipe)
    steps = search.settings.get("steps", settings["steps"].default if "steps" in settings else None)
    if search.scheduler != "pbt" or "save_every" in search.settings or not steps or "save_every" not in settings:
        return {}
    return {"save_every": max(1, steps // 10)}


def cpus(search: Search) -> int:
    """CPUs of one trial, all its processes together."""
    return layout(search).cpus(search.where.threads)


def layout(search: Search) -> Layout:
    """The processes of one trial."""
    return loading.kind(loading.recipe(search.recipe)).layout(search.where)
