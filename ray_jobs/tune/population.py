"""Population-based training: which settings may change during a run, and how one trial takes over another's weights.

Source: Jaderberg et al. 2017 (arXiv:1711.09846), algorithm 1: exploit (copy the better one's weights), then explore
(perturb its settings). Ray Tune decides which trial copies which; nothing here knows Ray.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray_jobs.errors import UsageError
from ray_jobs.recipe.loading import engine, recipe
from ray_jobs.recipe.spec import Spec
from ray_jobs.run import checkpoint
from ray_jobs.run.files import write_json
from ray_jobs.run.folder import Run
from ray_jobs.train import averages
from ray_jobs.tune.search import Search
from ray_jobs.tune.trials import Trial, save

STATE, ORIGIN = "state.ckpt", "origin.json"
ADVICE = "leave it out of the space, or take --scheduler asha"


def refuse(search: Search) -> None:
    """Build the recipe at the ends of each dimension: only weights of the same shapes can be taken over.

    Raises:
        UsageError: a setting cannot change during a run; or the recipe cannot be built with one of its values.
    """
    if search.trials < 2:
        raise UsageError("--scheduler pbt needs a population: --trials 2, or better 4 and more.")
    base = {n: d.ends()[0] for n, d in search.dimensions.items()}
    first = anatomy(search, base)
    for name, dimension in search.dimensions.items():
        if name == "steps":
            raise UsageError(f"--scheduler pbt compares trials of equal length and cannot change 'steps': {ADVICE}.")
        for value in dimension.ends()[1:]:
            differs = _difference(first, anatomy(search, base | {name: value}))
            if differs:
                raise UsageError(f"--scheduler pbt cannot change '{name}' during a run, because {differs}: {ADVICE}.")


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What differs between two anatomies, in words; empty where nothing does."""
    for part in one.keys() | other.keys():
        if one.get(part) != other.get(part):
            return (
                f"{part.removeprefix('shape of ')} has another shape"
                if part.startswith("shape")
                else f"the run's {part} depends on it"
            )
    return ""


def anatomy(search: Search, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The shape of each weight, and the options that cannot change during a run: a checkpoint depends on both."""
    made, weights, _ = assemble(Spec(search.recipe, {**search.settings, **settings}, search.seed, search.where))
    shapes = {f"shape of {k}": tuple(v.shape) for k, v in weights.items() if hasattr(v, "shape")}
    return shapes | engine(recipe(search.recipe)).fixed(made)


def assemble(spec: Spec) -> tuple[Any, Mapping[str, Any], list[dict[str, Any]]]:
    """The recipe's plan built, its untrained weights, and the parameter groups of its optimisers, in order.

    Raises:
        UsageError: the recipe refuses its settings.
    """
    from ray_jobs.recipe.settings import build

    try:
        made = build(spec.recipe, spec.settings)
        return (made, *engine(recipe(spec.recipe)).weights(made, spec.seed))
    except ValueError as error:
        raise UsageError(str(error)) from error


def pack(trial: Trial, checkpoint: Path, into: Path) -> None:
    """Copy a trial's checkpoint, with its trial, step and settings, into a folder for other trials to take over."""
    shutil.copyfile(checkpoint, into / STATE)
    step = int(checkpoint.stem.removeprefix("step-"))
    origin = {"trial": trial.number, "step": step, "percent": trial.percent, "settings": trial.settings}
    write_json(into / ORIGIN, origin)


def adopt(task_spec: Spec, trial: Trial, donor: Path, settings: Mapping[str, Any]) -> Trial:
    """The trial with the donor's weights and new settings; unchanged where it packed that folder itself or has it already.

    Args:
        task_spec: the trial's spec with its old settings; its `out` is the run folder.
    """
    origin = json.loads((donor / ORIGIN).read_text())
    event = f"took over trial {origin['trial']:04d} at step {origin['step']}"
    if origin["trial"] == trial.number or event in trial.history[-1:]:
        return trial
    at = Path(str(task_spec.out))
    old = replace(task_spec, settings={**task_spec.settings, **origin["settings"]})
    new = replace(task_spec, settings={**task_spec.settings, **settings})
    _install(Run(at), donor / STATE, origin["step"], old, new)
    write_json(at / "run.json", (Run(at).read("run.json") or {}) | {"settings": new.settings})
    reports = tuple(r for r in trial.reports if r[0] < origin["percent"])
    trial = replace(trial, settings=dict(settings), reports=reports, history=(*trial.history, event))
    save(at, trial)
    return trial


def _install(run: Run, source: Path, step: int, old: Spec, new: Spec) -> None:
    state = checkpoint.load(source)
    retune(state, assemble(old)[2], assemble(new)[2])
    path = run.checkpoint(step)
    checkpoint.save(path, state)
    for other in run.checkpoints():
        if other != path:
            other.unlink(missing_ok=True)
    for snapshot in averages.snapshots(run, step):  # of other weights
        snapshot.unlink(missing_ok=True)
    run.rewind(step)


def retune(state: Any, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
    """Change the hyperparameters that optimisers keep in a checkpoint, in place, from the old settings' to the new ones'.

    A number is scaled by new / old, so that a learning rate stays where its schedule has brought it. `old` and `new` are
    the parameter groups of freshly built optimisers, in the order of the checkpoint's; copies of them (several learners)
    follow one another.
    """
    groups = list(_groups(state))
    for i, group in enumerate(groups):
        before, after = old[i % len(old)], new[i % len(new)]
        for key in (k for k in before if k != "params" and k in group):
            a, b = _base(before, key), _base(after, key)
            if a != b:
                group[key] = group[key] * (b / a) if isinstance(a, float) and a else b
    ratios = iter([_base(b, "lr") / _base(a, "lr") if _base(a, "lr") else 1.0 for a, b in zip(old, new, strict=True)])
    for schedule in state.get("lr_schedulers", []):
        mine = list(itertools.islice(ratios, len(schedule["base_lrs"])))
        for key in ("base_lrs", "_last_lr"):
            schedule[key] = [lr * ratio for lr, ratio in zip(schedule[key], mine, strict=True)]


def _base(group: Mapping[str, Any], key: str) -> Any:
    """A group's hyperparameter; of a scheduled learning rate, what the schedule multiplies."""
    return group.get("initial_lr", group["lr"]) if key == "lr" else group[key]


def _groups(state: Any) -> Iterator[dict[str, Any]]:
    """The parameter groups of every optimiser in a checkpoint, in its order."""
    if isinstance(state, dict):
        if isinstance(state.get("param_groups"), list) and "state" in state:
            yield from state["param_groups"]
            return
        for value in state.values():
            yield from _groups(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from _groups(value)
