"""The verbs submit and resubmit: a command and a place become a job, which is checked, sent and recorded."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from cluster import places, storage, store
from cluster.job import HIDDEN, Job, Launcher, LauncherError, Resources, hide_words, parse_memory
from ray_jobs import preflight
from ray_jobs.orders import Order, options_of, read, variables
from ray_jobs.recipe import UsageError

Check = Callable[[list[str]], object]
ABOUT_JOBS = ("submit", "resubmit", "status", "logs", "cancel", "jobs")
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
        except (UsageError, ValueError) as error:
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
        raise UsageError(f"`{order.argv[0]}` cannot be submitted: it is about jobs, and no work of its own.")
    return send(order, check)


def resubmit(argv: list[str], check: Check | None = None) -> int:
    """Send a job again: the same command, resources and place, but for what is given anew; a run goes on where it was.

    Raises:
        UsageError: there is no such job, it still runs, its run is finished, or it needs a secret that was not kept.
    """
    from ray_jobs.jobs_cli import find, state_of, usage

    if argv[:1] in (["-h"], ["--help"]):
        read("resubmit", ["--help"], "local")
    if not argv or argv[0].startswith("-"):
        raise UsageError("It is used as: reprise resubmit JOB [options].")
    with usage():
        entry = find(argv[0])
        order = read("resubmit", argv[1:], entry.on)
        if order.argv:
            raise UsageError(f"'{order.argv[0]}' is no option: the command is the job's own, and cannot be changed.")
        if not (state := state_of(entry)).ended:
            raise UsageError(
                f"{entry.id} is still {state.value}: wait for its end, or `reprise cancel {entry.id}` first."
            )
        if not Path(entry.workdir).is_dir():
            raise UsageError(f"{entry.id} was sent from {entry.workdir}, which is not here any more: submit it anew.")
    with contextlib.chdir(entry.workdir):
        return send(again(entry, order), check, follows=entry.id)


def again(entry: store.Entry, order: Order) -> Order:
    """The order that repeats a job, with what `order` gives anew.

    Raises:
        UsageError: a secret is needed that was not kept, or the run is finished.
    """
    env = dict(entry.env) | {k: os.environ[k] for k, v in entry.env.items() if v == HIDDEN and k in os.environ}
    env |= variables(order.wanted.get("env", ""))
    options = dict(entry.options) | dict(order.options)
    lost = [f"--env {name}" for name, value in env.items() if value == HIDDEN]
    lost += [f"--{name}" for name, value in options.items() if HIDDEN in str(value)]
    if lost:
        raise UsageError(
            f"{entry.id} was sent with secrets, which are not kept: give them again, as in "
            f"`reprise resubmit {entry.id} {' '.join(lost)}` (a variable that is set here is passed on by its name)."
        )
    if any(HIDDEN in word for word in entry.command):
        raise UsageError(
            f"The command of {entry.id} held a secret, which is not kept: submit it anew with `reprise submit`."
        )
    asked: dict[str, Any] = {k: v for k, v in entry.resources.items() if k != "memory"}
    asked |= {"memory": str(entry.resources.get("memory") or ""), "name": entry.name, "python": entry.command[0]}
    argv = preflight.continuing(entry.command[3:], entry.submitted)
    wanted = asked | {k: v for k, v in order.wanted.items() if k != "env"}
    address = {"address": entry.address} if entry.address and "address" in options_of(entry.on) else {}
    return replace(
        order,
        argv=tuple(argv),
        place=entry.on,
        profile=entry.profile,
        options=address | options,
        wanted=wanted,
        env=env,
    )


def send(order: Order, check: Check | None, follows: str = "") -> int:
    """Submit an order, or show it where it asks for a dry run."""
    plan = prepare(order, check)
    if order.wanted.get("dry_run"):
        return _show(plan)
    if plan.reasons or plan.launcher is None or plan.job is None:
        raise UsageError(_together(plan.reasons))
    with plan.trying():
        id = plan.launcher.submit(plan.job)
        _record(id, order, plan.launcher, plan.job, follows)
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
        plan.doubts = preflight.doubts(argv, place, Path.cwd())
    resources, env = Resources(), dict(order.env)
    with plan.trying():
        env |= variables(wanted.get("env", ""))
    with plan.trying():
        resources = _resources(wanted, plan.reasons)
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
        "--cpus": (wanted.get("cpus", 1), 0),
        "--gpus": (wanted.get("gpus", 0), 0),
    }
    reasons += [
        f"{name} must be a number from {least} on, not {n:g}." for name, (n, least) in sizes.items() if not n >= least
    ]
    nodes, cpus, gpus = (n for n, _ in sizes.values())
    return Resources(cpus, gpus, parse_memory(wanted["memory"]) if wanted.get("memory") else 0, nodes)


def _name(argv: Sequence[str]) -> str:
    """The recipe's short name, or the verb, as it may name a job."""
    word = argv[1] if len(argv) > 1 and not argv[1].startswith("-") else argv[0]
    last = word.rstrip("/").rpartition("/")[2].rpartition(".")[2]
    return re.sub(r"[^a-z0-9_-]+", "-", last.lower()).strip("-_")[:48].rstrip("-_") or "job"


def _python(place: places.Place, launcher: Launcher) -> str:
    """The place's own interpreter; else this one where the job sees these files, else the one that PATH finds there."""
    here = not place.copies or re.match(r"https?://(127\.|localhost|\[::1\])", getattr(launcher, "url", ""))
    return getattr(launcher, "python", "") or (sys.executable if here else "python")


def _refuse_unwritable(folder: Path) -> None:
    """A job that cannot be recorded is not sent."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
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


def _record(id: str, order: Order, launcher: Launcher, job: Job, follows: str) -> None:
    """Remember what was sent.

    Raises:
        UsageError: this machine's record could not be written; the sentence says under which id the job runs.
    """
    from ray_jobs.run import git_commit

    known = {
        "profile": order.profile,
        "options": order.options,
        "follows": follows,
        "version": metadata.version("reprise"),
    }
    entry = store.entry_of(
        id, order.place, job, address=hide_words(getattr(launcher, "url", "")), commit=git_commit(job.workdir) or "",
        runs=tuple(_absolute(out, order.place) for out in preflight.run_folders(order.argv)),
        shared=_shared(launcher, job.workdir), **known,
    )  # fmt: skip
    try:
        store.write(entry)
    except OSError as error:
        why = f"{store.jobs_folder()} cannot be written ({error.strerror})"
        raise UsageError(
            f"The job runs as {id} on {order.place} {entry.address}, but {why}: note the id, and mend that."
        ) from None


def _shared(launcher: Launcher, workdir: Path) -> str:
    """Where other machines find the record too; '' where there is no such place."""
    own = getattr(launcher, "shared", "")
    if own:
        return str((workdir / Path(own).expanduser() / store.SHARED).absolute())
    return str(workdir / store.SHARED) if storage.is_shared(workdir) else ""


def _absolute(out: str, place: str) -> str:
    """A run folder by its whole path, where it is one of this machine's."""
    return out if "://" in out or places.PLACES[place].copies else str(Path(out).absolute())


def _tell(id: str, order: Order, doubts: list[str], follows: str) -> None:
    going = f", which goes on with {follows} by `reprise {shlex.join(order.argv)}`" if follows else ""
    print(f"Submitted {id}{going}. `reprise logs -f {id}` follows it, `reprise cancel {id}` ends it.")
    for doubt in doubts:
        print(f"warning: {doubt}", file=sys.stderr)
