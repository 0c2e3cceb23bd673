"""The verb trust: approve what another folder holds, so that it may decide where jobs run."""

from __future__ import annotations

from pathlib import Path

from cluster import profiles, store
from cluster.trust import approve
from ray_jobs.errors import UsageError, printable
from ray_jobs.jobs.verbs import usage


def trust(file: str = "") -> int:
    """Approve a project's profiles, or someone else's job record.

    Profiles decide which programs run and which cluster gets your token, and a record does the same for one job. Read the file
    first. When it changes, it must be approved again.

    Args:
        file: clusters.yaml, or a record in .reprise/jobs; by default the project's files of profiles.

    Raises:
        UsageError: there is no such file, or it holds neither profiles nor a record.
    """
    paths = [Path(file).absolute()] if file else profiles.of_project(Path.cwd())
    if not paths:
        raise UsageError("There is no clusters.yaml in this project: name the file that you approve.")
    for path in paths:
        _approve(path)
    return 0


def _approve(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"There is no file {path} to approve.")
    is_record = path.suffix == ".json"
    try:
        with usage():
            what = f"the job {path.stem}" if is_record else ", ".join(profiles.read(path)) or "no profiles"
            approve(path, store.approval(path) if is_record else profiles.approval(path))
    except UsageError as error:
        raise UsageError(f"{path} holds no record of a job." if is_record else str(error)) from None
    except (OSError, RecursionError) as error:
        raise UsageError(f"{path} could not be approved ({error}).") from None
    print(printable(f"Approved {path} ({what}), until it changes."))
