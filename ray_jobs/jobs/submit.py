"""The verb submit: turn a command and a backend into a job, check it, send it and record it."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster import backends, storage, store
from cluster.hiding import hide, hide_command
from cluster.job import Job, Launcher, LauncherError, Resources, parse_memory
from ray_jobs.command.options import CommandLine
from ray_jobs.command.requests import check, parse
from ray_jobs.errors import UsageError, printable
from ray_jobs.jobs import preflight
from ray_jobs.jobs.backend_options import SubmitRequest, read, variables
from ray_jobs.jobs.program import MODULE
from ray_jobs.jobs.storage_warnings import storage_warnings

ABOUT_JOBS = ("submit", "resubmit", "status", "logs", "cancel", "jobs", "cluster", "completion")


@dataclass
class Submission:
    """A job that is being prepared, every reason why it cannot run, and warnings."""

    launcher: Launcher | None = None
    job: Job | None = None
    reasons: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def trying(self) -> Iterator[None]:
        """Turn an error in the block into one more reason."""
        try:
            yield
        except (UsageError, ValueError, OSError) as error:
            self.reasons.append(str(error))


def submit(argv: CommandLine) -> int:
    """Send a command to the background, Ray, Slurm or Kubernetes.

    It is sent word for word, and continues without this terminal.

    Args:
        argv: options of submit, and then VERB R ...

    Returns:
        0; 1 where a dry run found reasons against it.

    Raises:
        UsageError: the command, an option or the backend is wrong; one error lists every reason.
    """
    request = read("submit", argv)
    if not request.argv:
        raise UsageError("There is nothing to submit: write the command after it, as in `reprise submit train R`.")
    if request.argv[0] in ABOUT_JOBS:
        raise UsageError(
            f"`{request.argv[0]}` cannot be submitted: it is about jobs and clusters, and does no work of its own."
        )
    return send(request)


def send(request: SubmitRequest, follows: str = "") -> int:
    """Submit a request, or show it where it asks for a dry run.

    Args:
        request: what to send, and where to.
        follows: id of the job that this one continues; '' for none.

    Returns:
        0; 1 where a dry run found reasons against it.

    Raises:
        UsageError: something is wrong; nothing was sent.
    """
    submission = prepare(request)
    if request.wanted.get("dry_run"):
        return _show(submission)
    if submission.reasons or submission.launcher is None or submission.job is None:
        raise UsageError(_listed(submission.reasons))
    with submission.trying():
        known = _known(request, submission.launcher, submission.job, follows)
        id = submission.launcher.submit(submission.job)
        _record(store.entry_of(id, request.backend, submission.job, **known))
        _report(id, request, submission.warnings, follows)
        return 0
    raise UsageError(_listed(submission.reasons))


def prepare(request: SubmitRequest) -> Submission:
    """The job of a request, with everything that is wrong with it; nothing is sent."""
    submission, wanted, argv = Submission(), request.wanted, list(request.argv)
    backend = backends.BACKENDS[request.backend]
    with submission.trying():
        check(parse(argv))
        submission.reasons += preflight.reasons_against(argv, backend)
        submission.reasons += preflight.too_large(argv, wanted.get("gpu_memory", 0))
        if request.options.get("array") and argv[:1] not in (["reproduce"], ["tune"]):
            submission.reasons.append(
                f"`{argv[0]}` has no seeds or trials that an --array's tasks could share: leave it out."
            )
        submission.warnings = storage_warnings(argv, backend, Path.cwd())
    resources, env = Resources(), dict(request.env)
    with submission.trying():
        env |= variables(wanted.get("env", ""))
    with submission.trying():
        resources = _resources({"cpus": _cores(argv, backend)} | wanted, submission.reasons)
    with submission.trying():
        submission.launcher = backends.make(request.backend, request.options)
        command = (wanted.get("python") or _python(backend, submission.launcher), *MODULE, *argv)
        submission.job = Job(wanted.get("name") or _name(argv), command, resources, env, Path.cwd())
        submission.reasons += submission.launcher.check(submission.job)
    with submission.trying():
        _refuse_unwritable(store.jobs_folder())
    return submission


def _resources(wanted: Mapping[str, Any], reasons: list[str]) -> Resources:
    sizes = {
        "--nodes": (wanted.get("nodes", 1), 1),
        "--cpus": (wanted["cpus"], 0),
        "--gpus": (wanted.get("gpus", 0), 0),
    }
    reasons += [
        f"{name} must be a number from {least} on, not {n:g}." for name, (n, least) in sizes.items() if not n >= least
    ]
    nodes, cpus, gpus = (n for n, _ in sizes.values())
    return Resources(cpus, gpus, parse_memory(wanted["memory"]) if wanted.get("memory") else 0, nodes)


def _cores(argv: Sequence[str], backend: backends.Backend) -> float:
    """Cores of the command's own process: 0 where it waits for tasks that need cores, else two jobs could wait for each other."""
    return 0.0 if backend.pooled and argv[:1] in (["reproduce"], ["tune"]) else 1.0


def _name(argv: Sequence[str]) -> str:
    """A job's name: the recipe's short name, or the verb, with only the characters that `Job` allows."""
    word = argv[1] if len(argv) > 1 and not argv[1].startswith("-") else argv[0]
    last = word.rstrip("/").rpartition("/")[2].rpartition(".")[2]
    return re.sub(r"[^a-z0-9_-]+", "-", last.lower()).strip("-_")[:48].rstrip("-_") or "job"


def _python(backend: backends.Backend, launcher: Launcher) -> str:
    """The interpreter for the job: the launcher's own option, else this one where the job sees these files, else `python`."""
    here = not backend.copies or re.match(r"https?://(127\.|localhost|\[::1\])", getattr(launcher, "url", ""))
    # Packages that the job installs (pip) are found only by the interpreter that PATH finds there.
    own = here and not getattr(launcher, "pip", ())
    return getattr(launcher, "python", "") or (sys.executable if own else "python")


def _refuse_unwritable(folder: Path) -> None:
    """Refuse a folder that cannot be written, because a job that cannot be recorded must not be sent; leaves nothing behind.

    Raises:
        LauncherError: the folder cannot be written.
    """
    try:
        there = next(p for p in (folder, *folder.parents) if p.exists())
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"\0" * 4096)
    except OSError as error:
        raise LauncherError(
            f"The job could not be recorded: {folder} cannot be written ({error.strerror}); make room, or set "
            "REPRISE_STATE to a folder of yours."
        ) from None


def _listed(reasons: list[str]) -> str:
    if len(reasons) == 1:
        return reasons[0]
    return "\n".join([f"{len(reasons)} reasons are against it:", *(f"  - {reason}" for reason in reasons)])


def _show(submission: Submission) -> int:
    if submission.launcher and submission.job:
        with submission.trying():
            print(submission.launcher.render(submission.job), end="")
    for kind, lines in (("cannot run", submission.reasons), ("warning", submission.warnings)):
        for line in lines:
            print(f"{kind}: {line}")
    print("Nothing was sent." if submission.reasons else "Nothing was sent; no reason against it was found.")
    return int(bool(submission.reasons))


def _known(request: SubmitRequest, launcher: Launcher, job: Job, follows: str) -> dict[str, Any]:
    """Further fields of the job's record, collected before the job is sent, so that nothing can fail afterwards."""
    from ray_jobs.run.provenance import git_commit, versions

    backend = backends.BACKENDS[request.backend]
    pinned = launcher.pinned() if hasattr(launcher, "pinned") else {}
    runs = [
        out if "://" in out or backend.copies else str(Path(out).absolute())
        for out in preflight.run_folders(request.argv)
    ]
    return {
        "address": hide(getattr(launcher, "url", "")),
        "profile": request.profile,
        "options": {**request.options, **pinned},
        "follows": follows,
        "version": versions().get("reprise", ""),
        "commit": git_commit(job.workdir) or "",
        "runs": tuple(runs),
        "shared": _shared(launcher, backend, job.workdir),
    }


def _record(entry: store.Entry) -> None:
    """Write the record of a job that was sent.

    Raises:
        UsageError: the record could not be written on this machine; the message names the id of the running job.
    """
    try:
        store.write(entry)
    except OSError as error:
        why = f"{store.jobs_folder()} cannot be written ({error.strerror})"
        raise UsageError(
            f"The job runs as {entry.id} on {entry.on} {entry.address}, but {why}: note the id, and make the folder writable."
        ) from None


def _shared(launcher: Launcher, backend: backends.Backend, workdir: Path) -> str:
    """The folder on shared storage for a second copy of the record; '' where there is none."""
    own = getattr(launcher, "shared", "")
    if not own and not storage.is_shared(workdir) and (backend.copies or not backend.elsewhere):
        return ""
    return str((workdir / Path(own).expanduser() / store.SHARED).absolute())


def _report(id: str, request: SubmitRequest, warnings: list[str], follows: str) -> None:
    going = f", which continues {follows} with `reprise {shlex.join(hide_command(request.argv))}`" if follows else ""
    print(f"Submitted {id}{printable(going)}. `reprise logs -f {id}` follows it, `reprise cancel {id}` ends it.")
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
