"""Which evaluation of a run was the best, by what its metrics.jsonl and result.json hold; `--checkpoint best`."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ray_jobs.errors import UsageError
from ray_jobs.recipe.loading import recipe
from ray_jobs.recipe.settings import known
from ray_jobs.recipe.spec import Spec
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import brief

DISTANCES = ("fid", "frechet_lite0")
"""The Frechet distances by features, as `lightning_modules.metrics.features` names them."""


class Judge(NamedTuple):
    """What checkpoints are compared by."""

    metrics: tuple[str, ...]
    """The first of these that was measured."""
    less: bool
    """Whether less is better."""

    def value(self, found: dict[str, Any]) -> tuple[str, float] | None:
        """The metric among those found, and its value; None where none of them is there and finite."""
        return next(((m, found[m]) for m in self.metrics if math.isfinite(found.get(m, math.nan))), None)


def _setting(spec: Spec, name: str) -> Any:
    """A setting of a run, its default where it was not given; None where the recipe has none of that name."""
    found = known(spec.recipe).get(name)
    return spec.settings.get(name, found.default) if found else None


class Best(NamedTuple):
    """The best evaluation of a run."""

    step: int
    metric: str
    value: float


def judge(spec: Spec) -> Judge | None:
    """The Frechet distance of samples where they are compared by features, else the metric of the recipe's claim; None without either."""
    if _setting(spec, "features"):
        return Judge(DISTANCES, less=True)
    claim = recipe(spec.recipe).claim
    return Judge((claim.metric,), claim.at_most is not None) if claim else None


def best(run: Run) -> Best | None:
    """The best evaluation that a run has logged, the first of equal ones; None where it has none to compare."""
    by = judge(run.spec)
    result = run.result
    lines = [*run.metrics(), *([result["metrics"] | {"step": result["step"]}] if result else [])]
    found = [Best(int(line["step"]), *value) for line in lines if by and (value := by.value(line))]
    if not found or by is None:
        return None
    return min(found, key=lambda one: one.value if by.less else -one.value)


def chosen(run: Run, checkpoint: str) -> int | None:
    """The step of the checkpoint that a user names: 'best', or a step; None for 'newest'.

    Raises:
        UsageError: it is none of these, or the run has no best one.
    """
    if checkpoint == "newest":
        return None
    if checkpoint.isascii() and checkpoint.isdigit() and len(checkpoint) < 12:
        return int(checkpoint)
    if checkpoint != "best":
        raise UsageError(f"--checkpoint is newest, best or a step, not '{checkpoint}'.")
    found = best(run) if _setting(run.spec, "eval_every") else None
    if found is None:
        raise UsageError(f"{run} has no best checkpoint: generative models that train with --eval_every keep one.")
    run.note(f"The best checkpoint by {found.metric}, {brief(found.value)}, is that of step {found.step}.")
    return found.step
