"""The run folder of an earlier training job, and the command that continues it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from datetime import datetime
from glob import escape
from pathlib import Path

from ray_jobs.command.requests import parse
from ray_jobs.command.verbs import HELP
from ray_jobs.errors import UsageError
from ray_jobs.jobs.preflight import run_folders
from ray_jobs.run.folder import Run


def find_run(argv: Sequence[str], since: float, folder: Path = Path(), job: str = "") -> str:
    """The run folder that `reprise train ...` made under `folder`, '' where there is none.

    Args:
        argv: train R ..., as the run's record has it.
        since: when the job was submitted, in seconds since 1970.
        folder: the folder that the command was started in.
        job: the job's id; a run that records a job belongs to that job alone.
    """
    line = shlex.join(["reprise", *argv])
    recipe = argv[1].rpartition(".")[2]
    if "/" in recipe:
        return ""
    for path in sorted((folder / "runs").glob(f"{escape(recipe)}-seed*/run.json"), reverse=True):
        try:
            record = json.loads(path.read_text())
            fits = record["command"] == line and datetime.fromisoformat(record["started"]).timestamp() >= since - 1
            if record.get("job") == job if record.get("job") else fits:
                return str(path.parent)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return ""


def continuation(argv: Sequence[str], since: float, job: str = "") -> list[str]:
    """The command that continues what `argv` started.

    Only `train` needs another command (`resume`); `tune` and `reproduce` continue when they are started again.

    Args:
        argv: the earlier job's command.
        since: when that job was submitted, in seconds since 1970.
        job: that job's id.

    Raises:
        UsageError: the run is finished.
    """
    if argv[0] != "train" or set(HELP) & set(argv):
        return list(argv)
    run = next(iter(run_folders(argv)), "") or find_run(argv, since, job=job)
    if not run or not Run.at(run).exists():
        return list(argv)
    address = parse(argv).spec.where.address
    if Run.open(run).result:
        raise UsageError(
            f"{run} is finished: there is nothing to continue. `reprise evaluate {run}` measures it again."
        )
    return ["resume", run, *(["--address", address] if address else [])]
