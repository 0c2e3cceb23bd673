"""Runs on two workers, for tests of what they compute: tests of how they are started, watched and restarted are in train/."""

from __future__ import annotations

from pathlib import Path

from ray_jobs.recipe.spec import Spec
from ray_jobs.run.folder import Run
from ray_jobs.train.groups.ddp_worker import placement
from ray_jobs.train.launch import create
from tests.two_processes import together


def trained(spec: Spec) -> Run:
    """The finished run of a spec with two workers: what `launch` does, but for the start, the watch and the restart of the workers."""
    run = create(spec, None)
    try:
        together(_train, str(run.path))
    finally:
        run.release()
    assert run.result
    return run


def _train(path: str) -> None:
    from ray_jobs.train.fit import fit

    run = Run(Path(path))
    assert fit(run, run.spec, placement=placement(2))
