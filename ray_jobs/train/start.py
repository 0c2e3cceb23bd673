"""`--start NAME=RUN`: a part of a model starts from the averaged weights of a finished run."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_jobs.errors import UsageError, unknown
from ray_jobs.recipe.loading import names, recipe, systems
from ray_jobs.recipe.spec import Spec
from ray_jobs.run.checkpoint import lacking, taken_over
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import Report, silent
from ray_jobs.train import averages

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ray_jobs.recipe.plan import Fit


def resolved(spec: Spec) -> Spec:
    """The spec with whole paths of the runs that it starts from.

    Raises:
        UsageError: the recipe has no such part, or the run is of another recipe, not there, not finished, or without a checkpoint.
    """
    parts = recipe(spec.recipe).needs
    for name, location in spec.start.items():
        if not parts:
            raise UsageError(f"{spec.recipe} starts from no other run: leave --start {name}={location} out.")
        if name not in parts:
            raise UsageError(unknown("part to start", name, list(parts), of=spec.recipe))
        run = Run.open(location)
        built_in = parts[name] in names() or parts[name] in systems()  # a user's own may be named in several ways
        if built_in and run.spec.recipe.partition("@")[0] != parts[name].partition("@")[0]:
            raise UsageError(
                f"{location} is a run of {run.spec.recipe}, but --start {name} of {spec.recipe} needs one of {parts[name]}."
            )
        if not run.result or not run.checkpoints():
            raise UsageError(
                f"{location} is not finished: --start {name} needs a finished run with its last checkpoint."
            )
    whole = {n: at if "://" in at else str(Path(at).resolve()) for n, at in spec.start.items()}
    return replace(spec, start=whole)


def provenance(spec: Spec, report: Report = silent) -> dict[str, dict[str, str]]:
    """For each part: the run, its recipe, its newest whole checkpoint and that file's SHA-256, as run.json records them.

    Raises:
        UsageError: a run has no checkpoint that can be read.
    """
    found = {}
    for name, location in spec.start.items():
        run = Run.open(location)
        run.report = report
        run.trained()
        assert run.used is not None
        used = run.used
        found[name] = {"run": location, "recipe": run.spec.recipe, "checkpoint": used.name, "sha256": digest(used)}
    return found


def load(model: nn.Module, run: Run) -> None:
    """Load the weights that run.json names into the parts of an untrained model.

    Raises:
        UsageError: a checkpoint is not the one that run.json records, its weights do not fit the part, or a part has neither steps
            of training nor weights of a run.
    """
    from lightning_modules.start import load_parts

    parts = {}
    for name, record in ((run.read("run.json") or {}).get("started_from") or {}).items():
        other = Run.open(record["run"])
        used = next((path for path in other.checkpoints() if path.name == record["checkpoint"]), None)
        if used is None or digest(used) != record["sha256"]:
            raise UsageError(
                f"{record['run']} has changed since {run} was made: it does not hold the "
                f"{record['checkpoint']} that --start {name} recorded."
            )
        with taken_over(used):
            parts[name] = averaged(other.load(used))
    try:
        load_parts(model, parts)
    except ValueError as error:
        raise UsageError(str(error)) from error
    check_trained(model, parts, run.spec)


def check_trained(model: nn.Module, started: Collection[str], spec: Spec) -> None:
    """Refuse a part that has no steps of training, unless it is among those that were `started` from other runs.

    Raises:
        UsageError: there is one.
    """
    from lightning_modules.staged import Staged

    for stage in model.stages[:-1] if isinstance(model, Staged) else ():
        if not stage.steps and stage.name not in started:
            other = f", or --start {stage.name}=RUN" if stage.name in recipe(spec.recipe).needs else ""
            raise UsageError(f"The part '{stage.name}' of {spec.recipe} would train for 0 steps: give it more{other}.")


def check_average(run: Run, state: Mapping[str, Any], made: Fit) -> None:
    """Refuse a checkpoint without the averages of the weights, where the run keeps some.

    Raises:
        UsageError: it has none.
    """
    from lightning_modules.ema import EMA
    from lightning_modules.power_ema import PowerEMA

    kept, power = (state["callbacks"].get(key) for key in (EMA.state_key, PowerEMA.state_key))
    if made.ema and not (isinstance(kept, dict) and isinstance(kept.get("average"), dict)):
        raise lacking(run.checkpoint(state["global_step"]), "the average of the weights")
    if made.ema_power and not (isinstance(power, dict) and isinstance(power.get("averages"), list)):
        raise lacking(run.checkpoint(state["global_step"]), "the power-function averages of the weights")


def averaged(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of a checkpoint as they are measured and sampled: averaged where the run keeps an average."""
    from lightning_modules.ema import EMA

    kept = state.get("callbacks", {}).get(EMA.state_key)
    average = kept.get("average") if isinstance(kept, dict) else None
    return {**state["state_dict"], **(average if isinstance(average, dict) else {})}


def reconstructed(run: Run, state: Mapping[str, Any], width: float) -> dict[str, Tensor]:
    """The weights of a checkpoint, averaged by a power function of this relative width.

    Raises:
        UsageError: the run keeps no power-function averages, there is no such width, or a snapshot cannot be read.
    """
    from lightning_modules.power_ema import PowerEMA, exponent_of, reconstructed

    newest = state["callbacks"].get(PowerEMA.state_key)
    if newest is None:
        raise UsageError(
            f"{run} keeps no averages that --ema {width:g} could be made of: train with --ema_power 0.05,0.10."
        )
    try:
        exponent_of(width)
    except ValueError as error:
        raise UsageError(f"--ema: {error}") from error
    earlier = averages.load(run, state["global_step"] - 1)
    with taken_over(run.checkpoint(state["global_step"])):
        return {**state["state_dict"], **reconstructed([*earlier, newest], width)}


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
