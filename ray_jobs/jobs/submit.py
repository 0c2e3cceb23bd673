"""The verb submit: a command and a place become a job, which is checked, sent and recorded."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster import places, storage, store
from cluster.job import Job, Launcher, LauncherError, Resources, hide_words, parse_memory
from ray_jobs.errors import UsageError
from ray_jobs.jobs import preflight
from ray_jobs.jobs.place_options import Order, read, variables

Check = Callable[[list[str]], object]
ABOUT_JOBS = ("submit", "resubmit", "status", "logs", "cancel", "jobs", "cluster")
MODULE = ("-m", "ray_jobs.cli")


@dataclass
class Plan:
    """What would be sent, every reason against it, and what may be wrong."""

    launcher: Launcher | None = None
    job: Job | None = None
    reasons: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def trying(self) -> Iterator[None]:
        """What cannot be becomes one more reason."""
        try:
            yield
        except (UsageError, ValueError, OSError) as error:
            self.reasons.append(str(error))


def submit(argv: list[str], check: Check | None = None) -> int:
    """Send `reprise VERB R ...`, the very same command, to a place where it goes on without this terminal.

    Args:
        argv: options of submit, and then VERB R ...
        check: refuses a command that cannot be (UsageError).

    Returns:
        0; 1 where a dry run found reasons against it.

    Raises:
        UsageError: the command, an option or the place cannot be; every reason is told at once.
    """
    order = read("submit", argv)
    if not order.argv:
        raise UsageError("There is nothing to submit: write the command behind it, as in `reprise submit train R`.")
    if order.argv[0] in ABOUT_JOBS:
        raise UsageError(
            f"`{order.argv[0]}` cannot be submitted: it is about jobs and clusters, and no work of its own."
        )
    return send(order, check)


def send(order: Order, check: Check | None, follows: str = "") -> int:
    """Submit an order, or show it where it asks for a dry run."""
    plan = prepare(order, check)
    if order.wanted.get("dry_run"):
        return _show(plan)
    if plan.reasons or plan.launcher is None or plan.job is None:
        raise UsageError(_together(plan.reasons))
    with plan.trying():
        known = _known(order, plan.launcher, plan.job, follows)
        id = plan.launcher.submit(plan.job)
        _record(store.entry_of(id, order.place, plan.job, **known))
        _tell(id, order, plan.doubts, follows)
        return 0
    raise UsageError(_together(plan.reasons))


def prepare(order: Order, check: Check | None = None) -> Plan:
    """The job that an order means, with everything that is wrong with it; nothing is sent."""
    plan, wanted, argv = Plan(), order.wanted, list(order.argv)
    place = places.PLACES[order.place]
    with plan.trying():
        if check is not None:
            check(argv)
        plan.reasons += preflight.against(argv, place)
        if order.options.get("array") and argv[:1] not in (["reproduce"], ["tune"]):
            plan.reasons.append(
                f"`{argv[0]}` has no seeds or trials that an --array's tasks could share: leave it out."
            )
        plan.doubts = preflight.doubts(argv, place, Path.cwd())
    resources, env = Resources(), dict(order.env)
    with plan.trying():
        env |= variables(wanted.get("env", ""))
    with plan.trying():
        resources = _resources({"cpus": _cores(argv, place)} | wanted, plan.reasons)
    with plan.trying():
        plan.launcher = places.make(order.place, order.options)
        command = (wanted.get("python") or _python(place, plan.launcher), *MODULE, *argv)
        plan.job = Job(wanted.get("name") or _name(argv), command, resources, env, Path.cwd())
        plan.reasons += plan.launcher.check(plan.job)
    with plan.trying():
        _refuse_unwritable(store.jobs_folder())
    return plan


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


def _cores(argv: Sequence[str], place: places.Place) -> float:
    """Cores of the command's own process: none where it waits for tasks that need them, else two jobs could wait for each other."""
    return 0.0 if place.pooled and argv[:1] in (["reproduce"], ["tune"]) else 1.0


def _name(argv: Sequence[str]) -> str:
    """The recipe's short name, or the verb, as it may name a job."""
    word = argv[1] if len(argv) > 1 and not argv[1].startswith("-") else argv[0]
    last = word.rstrip("/").rpartition("/")[2].rpartition(".")[2]
    return re.sub(r"[^a-z0-9_-]+", "-", last.lower()).strip("-_")[:48].rstrip("-_") or "job"


def _python(place: places.Place, launcher: Launcher) -> str:
    """The place's own interpreter; else this one where the job sees these files, else the one that PATH finds there."""
    here = not place.copies or re.match(r"https?://(127\.|localhost|\[::1\])", getattr(launcher, "url", ""))
    own = here and not getattr(
        launcher, "pip", ()
    )  # packages of the job lie beside the interpreter that PATH finds there
    return getattr(launcher, "python", "") or (sys.executable if own else "python")


def _refuse_unwritable(folder: Path) -> None:
    """A job that cannot be recorded is not sent; looking leaves nothing behind."""
    try:
        there = next(p for p in (folder, *folder.parents) if p.exists())
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"\0" * 4096)
    except OSError as error:
        raise LauncherError(
            f"The job could not be recorded: {folder} cannot be written ({error.strerror}); make room, or set "
            "REPRISE_STATE to a folder of yours."
        ) from None


def _together(reasons: list[str]) -> str:
    if len(reasons) == 1:
        return reasons[0]
    return "\n".join([f"{len(reasons)} reasons are against it:", *(f"  - {reason}" for reason in reasons)])


def _show(plan: Plan) -> int:
    if plan.launcher and plan.job:
        with plan.trying():
            print(plan.launcher.render(plan.job), end="")
    for kind, told in (("cannot run", plan.reasons), ("warning", plan.doubts)):
        for line in told:
            print(f"{kind}: {line}")
    print("Nothing was sent." if plan.reasons else "Nothing was sent; nothing speaks against it.")
    return int(bool(plan.reasons))


def _known(order: Order, launcher: Launcher, job: Job, follows: str) -> dict[str, Any]:
    """What is recorded of a job beside what it is; gathered before it is sent, so that nothing can go wrong after."""
    from ray_jobs.run.provenance import git_commit, versions

    place = places.PLACES[order.place]
    pinned = launcher.pinned() if hasattr(launcher, "pinned") else {}
    runs = [
        out if "://" in out or place.copies else str(Path(out).absolute()) for out in preflight.run_folders(order.argv)
    ]
    return {
        "address": hide_words(getattr(launcher, "url", "")),
        "profile": order.profile,
        "options": {**order.options, **pinned},
        "follows": follows,
        "version": versions().get("reprise", ""),
        "commit": git_commit(job.workdir) or "",
        "runs": tuple(runs),
        "shared": _shared(launcher, place, job.workdir),
    }


def _record(entry: store.Entry) -> None:
    """Remember what was sent.

    Raises:
        UsageError: this machine's record could not be written; the sentence says under which id the job runs.
    """
    try:
        store.write(entry)
    except OSError as error:
        why = f"{store.jobs_folder()} cannot be written ({error.strerror})"
        raise UsageError(
            f"The job runs as {entry.id} on {entry.on} {entry.address}, but {why}: note the id, and mend that."
        ) from None


def _shared(launcher: Launcher, place: places.Place, workdir: Path) -> str:
    """Where other machines find the record too; '' where there is no such place."""
    own = getattr(launcher, "shared", "")
    if not own and not storage.is_shared(workdir) and (place.copies or not place.elsewhere):
        return ""
    return str((workdir / Path(own).expanduser() / store.SHARED).absolute())


def _tell(id: str, order: Order, doubts: list[str], follows: str) -> None:
    going = f", which goes on with {follows} by `reprise {shlex.join(order.argv)}`" if follows else ""
    print(f"Submitted {id}{going}. `reprise logs -f {id}` follows it, `reprise cancel {id}` ends it.")
    for doubt in doubts:
        print(f"warning: {doubt}", file=sys.stderr)
