"""Runs of earlier versions: what no longer fits the code is refused in one sentence, before anything is loaded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ray_jobs.errors import UsageError
from ray_jobs.recipe.loading import RENAMED
from ray_jobs.recipe.settings import check, known
from ray_jobs.recipe.spec import Spec
from ray_jobs.recipe.trusted import own_recipe
from ray_jobs.run.checkpoint import lacking
from ray_jobs.run.files import write_json
from ray_jobs.run.folder import Run


def current_spec(run: Run) -> Spec:
    """The spec of a run that this version can train on, measure and sample.

    Raises:
        UsageError: its recipe or one of its settings has another name now, or is gone.
    """
    spec = run.spec
    if spec.recipe in RENAMED:
        raise refused(run, f"The run {run}", f"recipe {spec.recipe} is now {RENAMED[spec.recipe]}")
    now = known(own_recipe(spec.recipe, str(run)))
    gone = [f"--{name}" for name in spec.settings if name not in now]
    if gone:
        raise refused(run, f"The run {run}", f"recipe {spec.recipe} had the settings {', '.join(gone)}")
    check(spec.recipe, spec.settings, spec.where)
    return spec


def relocate(run: Run) -> None:
    """Record in run.json where data lie now that were moved, and where they were.

    Raises:
        UsageError: run.json cannot be written.
    """
    record = run.read("run.json") or {}
    old = {name: record["settings"].get(name) for name in run.moved}
    if old:
        record |= {"settings": {**record["settings"], **run.moved}, "moved": old}
        try:
            write_json(run.path / "run.json", record)
        except OSError as error:
            raise run.place.unusable(error) from None
        run.place.remember()


@contextlib.contextmanager
def data_found(run: Run) -> Iterator[None]:
    """Turn an error about the run's data into a sentence that says how to name their new place.

    Raises:
        UsageError: the data cannot be used.
    """
    try:
        yield
    except (ValueError, UsageError) as error:
        places = {n: run.spec.settings.get(n) or s.default for n, s in known(run.spec.recipe).items() if s.path}
        gone = {n: at for n, at in places.items() if at and at in str(error) and not Path(at).exists()}
        if not gone and isinstance(error, UsageError):
            raise
        hint = "".join(f" If {at} was moved, give its new place: --{n} PLACE." for n, at in gone.items())
        raise UsageError(f"{error}{hint}") from error


def check_weights(run: Run, step: int, found: Mapping[str, Any], wanted: Mapping[str, Any], what: str) -> None:
    """Refuse weights that do not fit by name or shape.

    Args:
        step: of the checkpoint.
        found, wanted: tensors by name, of the checkpoint and of the model as it is now.
        what: they belong to, such as a recipe's name.

    Raises:
        UsageError: a name is missing or too many, or a shape differs.
    """
    check_names(run, step, found, wanted, f"weights of {what}")
    for name, tensor in wanted.items():
        if not hasattr(found[name], "shape"):
            raise lacking(run.checkpoint(step), f"the weights {name}")
        if found[name].shape != tensor.shape:
            shapes = f"{list(found[name].shape)}, now {list(tensor.shape)}"
            raise refused(run, checkpoint(run, step), f"weights of {what} had other shapes ({name}: {shapes})")


def check_names(run: Run, step: int, found: Mapping[str, Any], wanted: Mapping[str, Any], what: str) -> None:
    """Refuse a part of a checkpoint whose names are not those of now.

    Raises:
        UsageError: a name is missing or too many.
    """
    old, new = ([name for name in one if name not in other] for one, other in ((found, wanted), (wanted, found)))
    if old or new:
        names = [f"{old[0]}, now gone" if old else "", f"{new[0]} is new" if new else ""]
        shown = f"{old[0]}, now {new[0]}" if old and new else "".join(names)
        raise refused(run, checkpoint(run, step), f"{what} had other names ({shown})")


def checkpoint(run: Run, step: int) -> str:
    """The checkpoint of a step, as the subject of a sentence."""
    return f"The checkpoint {run.checkpoint(step)}"


def refused(run: Run, subject: str, whose: str) -> UsageError:
    """The sentence about a run or checkpoint of an earlier version.

    Args:
        subject: what does not fit.
        whose: the rest of "... an earlier version of Reprise whose".
    """
    commit = (run.read("run.json") or {}).get("git")
    version = f"that version (git commit {commit})" if commit else "that version"
    return UsageError(
        f"{subject} was written by an earlier version of Reprise whose {whose}: train again or use {version}."
    )
