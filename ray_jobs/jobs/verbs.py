"""The verbs jobs, status, logs and cancel, with the same words and states for every backend."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cluster import backends, profiles, store
from cluster.job import History, Launcher, LauncherError, State
from ray_jobs.errors import UsageError, printable, unknown
from ray_jobs.jobs import view
from ray_jobs.jobs.continuation import find_run
from ray_jobs.jobs.program import argv_of
from ray_jobs.jobs.view import NOT_ASKED, SILENT

PATIENCE = 1.0
"""Seconds; a cluster that failed to answer for so long is not asked about its other jobs in the same listing."""


def status(job: str) -> int:
    """Show the state of a job, and all that is recorded of it."""
    with usage():
        entry = find(job)
        if entry.foreign:
            view.print_one(entry, entry.state or NOT_ASKED, runs_of(entry))
            print(f"  {printable(foreign(entry))}")
            return 0
        entry, state = look(entry, whole=True)
    view.print_one(entry, state.value, runs_of(entry))
    return 0


def logs(job: str, *, follow: bool = False) -> int:
    """Print a job's output.

    Args:
        job: its id, or the beginning of it.
        follow: continue until the job has ended; the exit code is then 0 only where it succeeded.
    """
    with usage():
        entry = find(job)
        launcher = launcher_of(entry)
        for piece in launcher.logs(entry.id, follow):
            sys.stdout.write(piece)
            sys.stdout.flush()
        return int(follow and state_of(entry) is not State.succeeded)


def cancel(job: str) -> int:
    """Stop a job; it has some time to save its work."""
    with usage():
        entry = find(job)
        if (state := state_of(entry)).ended:
            print(f"{entry.id} has already {'been ' * (state in (State.cancelled, State.lost))}{state.value}.")
            return 0
        launcher = launcher_of(entry)
        launcher.cancel(entry.id)
    grace = getattr(launcher, "grace", 0)
    print(f"Asked {entry.id} to stop; it has {grace:g} s to save its work. `reprise logs -f {entry.id}` follows.")
    return 0


def jobs(*, state: str = "", on: str = "", watch: bool = False) -> int:
    """List every job that was submitted from here, newest first.

    Args:
        state: only those that are pending, running, succeeded, failed, cancelled or lost.
        on: only those of this backend or profile.
        watch: show them as they change, each second, until all have ended or Ctrl-C.
    """
    if state and state not in (words := [s.value for s in State]):
        raise UsageError(unknown("state", state, words))
    known, damaged = store.entries(also=_also())
    if damaged:
        where = " and ".join(map(str, [store.jobs_folder(), *_also()]))
        print(printable(f"Skipped damaged entries in {where}: {', '.join(damaged)}."), file=sys.stderr)
    if on and on not in (
        allowed := sorted({*backends.BACKENDS, *(e.on for e in known), *(e.profile for e in known)} - {""})
    ):
        raise UsageError(unknown("backend or profile", on, allowed))
    if not known:
        print("No job was submitted from here yet: `reprise submit train ddpm_digits` submits one.")
        return 0
    if watch:
        view.watch(lambda: rows(state, on))
    else:
        view.print_list(rows(state, on))
    return 0


def rows(state: str = "", on: str = "") -> list[view.Row]:
    """Jobs with their states in words, filtered by state and by backend or profile; '' keeps all."""
    known = [e for e in store.entries(also=_also())[0] if not on or on in (e.on, e.profile)]
    return [row for row in _states(known) if not state or row[1] == state]


def look(entry: store.Entry, *, whole: bool = False) -> tuple[store.Entry, State]:
    """A job's record and state: the recorded final state, else what its cluster reports now, which is recorded.

    Args:
        entry: the record as it is.
        whole: also ask for attempts and times of a job that has not ended.

    Raises:
        LauncherError: the cluster does not answer.
    """
    if entry.state:
        return entry, State(entry.state)
    launcher = launcher_of(entry)
    state = launcher.state(entry.id)
    history = _history(launcher, entry.id) if whole or state.ended else None
    return store.seen(entry, state, history=history), state


def state_of(entry: store.Entry) -> State:
    """A job's state; see `look`."""
    return look(entry)[1]


def find(job: str) -> store.Entry:
    """The record of the job with this id, or with an id that begins so.

    Raises:
        LauncherError: there is none, or several.
    """
    return store.find(job, also=_also())


def launcher_of(entry: store.Entry) -> Launcher:
    """The launcher that runs a recorded job.

    Raises:
        LauncherError: someone else made the record, or this version of Reprise does not know its backend.
    """
    if entry.foreign:
        raise LauncherError(foreign(entry))
    pinned = {"address": entry.address} if entry.address and "address" in backends.options(entry.on) else {}
    return backends.make(entry.on, dict(entry.options) | pinned)


def foreign(entry: store.Entry) -> str:
    """The sentence about a record that this user neither made nor approved."""
    return (
        f"You did not make the record of {entry.id} in {entry.foreign}, so its cluster is not asked: read it, and where you "
        f"trust it, `reprise trust {entry.foreign}`."
    )


def runs_of(entry: store.Entry) -> list[str]:
    """The run folders of a job: those that its command names, or the one that its training made."""
    argv = argv_of(entry.command)
    if entry.foreign or entry.runs or argv[:1] != ("train",) or len(argv) < 2:
        return list(entry.runs)
    return list(filter(None, [find_run(argv, entry.submitted, Path(entry.workdir), entry.id)]))


@contextlib.contextmanager
def usage() -> Iterator[None]:
    """Turn a launcher's error in the block into a UsageError."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from None


def _also() -> list[Path]:
    """Folders of records on shared storage: of this directory, and of the shared folders that profiles name."""
    tops = {Path.cwd()}
    with contextlib.suppress(LauncherError):  # `submit` reports what is wrong with a profile
        named = [profile["shared"].content for profile in profiles.load().values() if "shared" in profile]
        tops |= {Path(str(top)).expanduser().absolute() for top in named}
    return [folder for top in sorted(tops) if (folder := top / store.SHARED).is_dir()]


def _history(launcher: Launcher, id: str) -> History | None:
    with contextlib.suppress(LauncherError):
        return launcher.history(id) if hasattr(launcher, "history") else None
    return None


def _states(known: list[store.Entry]) -> Iterator[view.Row]:
    """Jobs with their states. A cluster that is slow and does not answer is asked only once."""
    silent: set[str] = set()
    for entry in known:
        cluster = f"{entry.on} {entry.address} {entry.options}"
        start = time.monotonic()
        if entry.foreign:
            yield entry, entry.state or NOT_ASKED
            continue
        try:
            if not entry.state and cluster in silent:
                raise LauncherError(SILENT)
            now, state = look(entry)
            yield now, state.value
        except ValueError:
            if time.monotonic() - start >= PATIENCE:
                silent.add(cluster)
            yield entry, SILENT
