"""The engine of `Study`: a process that is advanced unit by unit, its shards computed in this process or by workers on Ray."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_jobs.distributed.connection import cluster_address
from ray_jobs.distributed.crew import Here, OnRay, Stopped
from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Study
from ray_jobs.recipe.process import Converging, Crew, State
from ray_jobs.recipe.settings import build
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.checkpoint import lacking, taken_over
from ray_jobs.run.progress import Report
from ray_jobs.train.drawing import Drawing, refuse_average
from ray_jobs.train.states import packed, unpacked

if TYPE_CHECKING:
    from ray_jobs.run.folder import Run

FIELDS = {"step": int, "arrays": list, "state": dict}
"""What a checkpoint must hold."""
SELDOM = 0.25
"""Seconds between two reports of progress."""


def train(run: Run, spec: Spec, report: Report, should_stop: Callable[[], bool]) -> bool:
    """Advance the process to its last step, or until it has converged; whether it got there."""
    plan = built(spec)
    found = run.latest(FIELDS)
    state, step = (restored(run, plan, spec, found), found["step"]) if found else (begin(plan, spec.seed), 0)
    run.rewind(step)
    if found:
        report({"note": f"continuing from step {step}"})
    with crew_of(spec.where, report, should_stop) as crew:
        step = advance(plan, state, step, spec.seed, crew, run, report, should_stop)
        if not over(plan, state, step):
            return False
        try:
            metrics = plan.process.result(state, spec.seed, crew)
        except Stopped:
            return False
    conclude(run, plan, state, step, metrics, report)
    return True


def advance(
    plan: Study,
    state: State,
    step: int,
    seed: int,
    crew: Crew,
    run: Run,
    report: Report,
    should_stop: Callable[[], bool],
) -> int:
    """Advance the state in place; log, save and report on the way, and save at the end. The step that was reached."""
    saved, shown = step, (time.monotonic(), step)
    while not (over(plan, state, step) or should_stop()):
        try:
            metrics = plan.process.advance(state, step, seed, crew)
        except Stopped:  # the state is that of the last whole unit
            break
        step += 1
        last = over(plan, state, step)
        if last or step % plan.log_every == 0:
            run.log(step, metrics)
        if not last and step % plan.save_every == 0:
            saved = step if save_or_note(run, step, state, plan.steps, report) else saved
        if last or time.monotonic() - shown[0] >= SELDOM:
            report(progress(plan, step, metrics, shown))
            shown = (time.monotonic(), step)
    if saved < step:
        run.save(step, packed(state, step))
    return step


def over(plan: Study, state: State, step: int) -> bool:
    """Whether all steps are done, or the process has converged."""
    return step >= plan.steps or converged(plan, state)


def converged(plan: Study, state: State) -> bool:
    """Whether the process says that it is done."""
    return isinstance(plan.process, Converging) and plan.process.done(state)


def progress(plan: Study, step: int, metrics: Mapping[str, float], before: tuple[float, int]) -> dict[str, Any]:
    """The event that shows how far and how fast the study is."""
    rate = (step - before[1]) / max(time.monotonic() - before[0], 1e-9)
    return {"step": step, "steps": plan.steps, "rate": rate, "unit": f"{plan.process.unit}s", "metrics": metrics}


def save_or_note(run: Run, step: int, state: State, steps: int, report: Report) -> bool:
    """Write a checkpoint; a full disk ends no training before its end. Whether it was written."""
    run.status("running", step, steps)
    try:
        run.save(step, packed(state, step))
        return True
    except OSError as error:
        why = error.strerror or error
        report({"note": f"The checkpoint of step {step} could not be written ({why}). Earlier ones are kept."})
        return False


def conclude(run: Run, plan: Study, state: State, step: int, metrics: Mapping[str, float], report: Report) -> None:
    """Draw the pictures and the learning curve, and declare the run finished."""
    from ray_jobs.results.plots import learning_curve

    if isinstance(plan.process, Converging):
        how = "converged" if converged(plan, state) else "has not converged"
        report({"note": f"{how} after {step} of at most {plan.steps} {plan.process.unit}s"})
    plan.process.pictures(state, run.path)
    learning_curve(run)
    run.finish(metrics, step=step, device="cpu", splits=splits(run, metrics))


def splits(run: Run, metrics: Iterable[str]) -> dict[str, str]:
    """What each metric is measured on: a study keeps nothing apart, its process is what is studied."""
    return dict.fromkeys(metrics, "the process itself")


def evaluate(run: Run, ema: float | None = None) -> tuple[dict[str, float], int]:
    """The result of the newest checkpoint, computed again in this process, and its step.

    Raises:
        UsageError: there is no checkpoint that can be read, or an average of the weights is asked for.
    """
    refuse_average(run, ema)
    found, plan = run.trained(FIELDS), built(run.spec)
    return plan.process.result(restored(run, plan, run.spec, found), run.spec.seed, Here()), found["step"]


def restored(run: Run, plan: Study, spec: Spec, found: Mapping[str, Any]) -> State:
    """The state in a checkpoint of the run.

    Raises:
        UsageError: it is not a state of this process.
    """
    path = run.checkpoint(found["step"])
    with taken_over(path):
        state = unpacked(found)
    for name, value in begin(plan, spec.seed).items():
        if type(state.get(name)) is not type(value):
            raise lacking(path, f"the state's {name!r}")
    return state


def sample(run: Run, *, n: int, seed: int, name: str, how: Drawing) -> Path:
    """Refuse: a study has no samples, and its pictures are drawn when it ends.

    Raises:
        UsageError: always.
    """
    drawn = ", ".join(sorted(file.name for file in run.path.glob("*.png")))
    where = f"it drew {drawn}" if drawn else "it draws its pictures when it ends"
    raise UsageError(f"{run} is a study, which has nothing to sample: {where}; 'reprise evaluate {run}' measures it.")


def loaded(run: Run) -> Any:
    """Refuse: a study trains neither a model nor an agent.

    Raises:
        UsageError: always.
    """
    raise UsageError(f"{run} is a study, which trains neither a model nor an agent: its checkpoint holds arrays alone.")


def model(run: Run) -> Any:
    """No model that could be exported.

    Raises:
        UsageError: always.
    """
    raise UsageError(f"{run} has no diffusion model: {run.spec.recipe} trains a study.")


def weights(plan: Study, seed: int) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """The state before the first step; a process has no optimisers' parameter groups."""
    return begin(plan, seed), []


def fixed(plan: Study) -> dict[str, Any]:
    """The steps, and all settings of the process that are no rates (floats): they cannot change while a run continues."""
    fields = {f.name: getattr(plan.process, f.name) for f in dataclasses.fields(plan.process)}
    return {name: value for name, value in fields.items() if not isinstance(value, float)} | {"steps": plan.steps}


def check_together(plan: Study) -> None:
    """Refuse: several seeds in one process are for agents.

    Raises:
        UsageError: always.
    """
    raise UsageError("This recipe is a study: --together is for agents, --jobs runs several seeds at a time.")


def built(spec: Spec) -> Study:
    """The plan with its process.

    Raises:
        UsageError: the process refuses its settings.
    """
    try:
        return build(spec.recipe, spec.settings)
    except ValueError as error:
        raise UsageError(str(error)) from error


def begin(plan: Study, seed: int) -> State:
    """The state before the first step.

    Raises:
        UsageError: the process refuses its settings.
    """
    try:
        return plan.process.begin(seed)
    except ValueError as error:
        raise UsageError(str(error)) from error


def crew_of(where: Where, report: Report, should_stop: Callable[[], bool]) -> Here | OnRay:
    """Workers on Ray where more than one is asked for, else this process."""
    if where.workers == 1:
        return Here(should_stop)
    address = cluster_address(where.address)
    return OnRay(where.workers, where.max_failures, address, report=report, should_stop=should_stop)
