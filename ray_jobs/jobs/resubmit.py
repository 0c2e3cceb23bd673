"""The verb resubmit: send a recorded job again, so that its run continues."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster import store
from cluster.hiding import HIDDEN
from cluster.job import JOB_VARIABLE, LauncherError
from ray_jobs.command.options import CommandLine
from ray_jobs.errors import UsageError
from ray_jobs.jobs.backend_options import SubmitRequest, options_of, read, variables
from ray_jobs.jobs.continuation import continuation
from ray_jobs.jobs.program import argv_of
from ray_jobs.jobs.submit import send
from ray_jobs.jobs.verbs import find, foreign, state_of, usage


def resubmit(argv: CommandLine) -> int:
    """Send a job again; its run continues in the same folder.

    The command, resources and backend are the same, except for options given now.

    Args:
        argv: the job, and then options.

    Raises:
        UsageError: there is no such job, it still runs, its run is finished, or it needs a secret that was not kept.
    """
    if argv[:1] in (["-h"], ["--help"]):
        read("resubmit", ["--help"], "local")
    if not argv or argv[0].startswith("-"):
        raise UsageError("It is used as: reprise resubmit JOB [options].")
    with usage():
        entry = find(argv[0])
        if entry.foreign:
            raise UsageError(foreign(entry))
        request = read("resubmit", argv[1:], entry.on)
        if request.argv:
            raise UsageError(f"'{request.argv[0]}' is no option: the command is the job's own, and cannot be changed.")
        if not (state := state_of(entry)).ended:
            raise UsageError(
                f"{entry.id} is still {state.value}: wait for its end, or `reprise cancel {entry.id}` first."
            )
        if not Path(entry.workdir).is_dir():
            raise UsageError(
                f"{entry.id} was sent from {entry.workdir}, which is not here any more: submit the command again."
            )
        _refuse_twice(entry)
    with contextlib.chdir(entry.workdir):
        return send(again(entry, request), follows=entry.id)


def _refuse_twice(entry: store.Entry) -> None:
    """Refuse where a later job continues this one: two jobs would write to one run folder."""
    for later in (e for e in store.entries()[0] if e.follows == entry.id):
        with contextlib.suppress(LauncherError):
            if not state_of(later).ended:
                raise UsageError(f"{later.id} continues {entry.id} already: wait for its end, or cancel it first.")


def again(entry: store.Entry, request: SubmitRequest) -> SubmitRequest:
    """The request that repeats a job, with the options that `request` changes.

    Raises:
        UsageError: the job needs a secret that was not kept, or its run is finished.
    """
    env = dict(entry.env) | {k: os.environ[k] for k, v in entry.env.items() if HIDDEN in v and k in os.environ}
    env = {JOB_VARIABLE: entry.id} | env | variables(request.wanted.get("env", ""))
    options = dict(entry.options) | dict(request.options)
    lost = [f"--env {name}" for name, value in env.items() if HIDDEN in value]
    lost += [f"--{name}" for name, value in options.items() if HIDDEN in str(value)]
    if lost:
        raise UsageError(
            f"{entry.id} was sent with secrets, which are not kept: give them again, as in "
            f"`reprise resubmit {entry.id} {' '.join(lost)}` (a variable that is set here is passed on by its name)."
        )
    if not argv_of(entry.command):
        raise UsageError(f"The record of {entry.id} holds no command of Reprise: submit the command again.")
    if any(HIDDEN in word for word in entry.command):
        raise UsageError(
            f"The command of {entry.id} held a secret, which is not kept: submit it again with `reprise submit`."
        )
    asked: dict[str, Any] = {k: v for k, v in entry.resources.items() if k != "memory"}
    asked |= {"memory": str(entry.resources.get("memory") or ""), "name": entry.name, "python": entry.command[0]}
    argv = continuation(argv_of(entry.command), entry.submitted, entry.id)
    wanted = asked | {k: v for k, v in request.wanted.items() if k != "env"}
    address = {"address": entry.address} if entry.address and "address" in options_of(entry.on) else {}
    return replace(
        request,
        argv=tuple(argv),
        backend=entry.on,
        profile=entry.profile,
        options=address | options,
        wanted=wanted,
        env=env,
    )
