"""The verbs about jobs that were submitted: jobs, status, logs and cancel; the same words and states for every place."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cluster import places, profiles, store
from cluster.job import History, Launcher, LauncherError, State
from ray_jobs.errors import UsageError, unknown
from ray_jobs.jobs import preflight, view

SILENT = "no answer"
"""In place of a state: whoever runs the job does not tell."""
PATIENCE = 1.0
"""Seconds after which a place that did not answer is not asked about its other jobs in the same round."""


def status(job: str) -> int:
    """Say how a submitted job is doing, and all that is recorded of it."""
    with usage():
        entry, state = look(find(job), whole=True)
    view.print_one(entry, state.value, runs_of(entry))
    return 0


def logs(job: str, *, follow: bool = False) -> int:
    """Print a job's output.

    Args:
        job: its id, or the beginning of it.
        follow: go on until the job has ended; the exit code then says how it ended.
    """
    with usage():
        entry = find(job)
        launcher = launcher_of(entry)
        for piece in launcher.logs(entry.id, follow):
            sys.stdout.write(piece)
            sys.stdout.flush()
        return int(follow and state_of(entry) is not State.succeeded)


def cancel(job: str) -> int:
    """End a job; it has a while to save its work."""
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
        on: only those of this place or profile.
        watch: show them as they change, each second, until all have ended or Ctrl-C.
    """
    if state and state not in (words := [s.value for s in State]):
        raise UsageError(unknown("state", state, words))
    known, damaged = store.entries(also=_also())
    if damaged:
        print(f"Skipped damaged entries in {store.jobs_folder()}: {', '.join(damaged)}.", file=sys.stderr)
    if on and on not in (
        allowed := sorted({*places.PLACES, *(e.on for e in known), *(e.profile for e in known)} - {""})
    ):
        raise UsageError(unknown("place", on, allowed))
    if not known:
        print("No job was submitted from here yet: `reprise submit train ddpm_digits` would be the first.")
        return 0
    if watch:
        view.watch(lambda: rows(state, on))
    else:
        view.print_list(rows(state, on))
    return 0


def rows(state: str = "", on: str = "") -> list[view.Row]:
    """Each job with its state in words, those that were asked for."""
    known = [e for e in store.entries(also=_also())[0] if not on or on in (e.on, e.profile)]
    return [row for row in _states(known) if not state or row[1] == state]


def look(entry: store.Entry, *, whole: bool = False) -> tuple[store.Entry, State]:
    """A job's record and state: the final one if it was seen before, else what its place says now, which is noted.

    Args:
        entry: the record as it is.
        whole: ask also how often and since when the job runs, before its end too.

    Raises:
        LauncherError: the place cannot be asked.
    """
    if entry.state:
        return entry, State(entry.state)
    launcher = launcher_of(entry)
    state = launcher.state(entry.id)
    told = _history(launcher, entry.id) if whole or state.ended else None
    return store.seen(entry, state, history=told), state


def state_of(entry: store.Entry) -> State:
    """Where a job stands; see `look`."""
    return look(entry)[1]


def find(job: str) -> store.Entry:
    """The record of a job by its id or the beginning of it.

    Raises:
        LauncherError: there is none, or several.
    """
    return store.find(job, also=_also())


def launcher_of(entry: store.Entry) -> Launcher:
    """The launcher that runs a recorded job.

    Raises:
        LauncherError: its place is not known here (any more).
    """
    pinned = {"address": entry.address} if entry.address and "address" in places.options(entry.on) else {}
    return places.make(entry.on, dict(entry.options) | pinned)


def runs_of(entry: store.Entry) -> list[str]:
    """The run folders of a job: those that its command names, or the one that it made."""
    if entry.runs or entry.command[3:4] != ("train",):
        return list(entry.runs)
    return list(filter(None, [preflight.begun(entry.command[3:], entry.submitted, Path(entry.workdir), entry.id)]))


@contextlib.contextmanager
def usage() -> Iterator[None]:
    """A launcher's refusal is the user's to mend."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from None


def _also() -> list[Path]:
    """Records on shared storage: of this directory, and of the shared folders that profiles name."""
    tops = {Path.cwd()}
    with contextlib.suppress(LauncherError):  # `submit` says what is wrong with a profile
        named = [profile["shared"].content for profile in profiles.load().values() if "shared" in profile]
        tops |= {Path(str(top)).expanduser().absolute() for top in named}
    return [folder for top in sorted(tops) if (folder := top / store.SHARED).is_dir()]


def _history(launcher: Launcher, id: str) -> History | None:
    with contextlib.suppress(LauncherError):
        return launcher.history(id) if hasattr(launcher, "history") else None
    return None


def _states(known: list[store.Entry]) -> Iterator[view.Row]:
    """A place that takes long not to answer is asked once."""
    silent: set[str] = set()
    for entry in known:
        place = f"{entry.on} {entry.address} {entry.options}"
        begun = time.monotonic()
        try:
            if not entry.state and place in silent:
                raise LauncherError(SILENT)
            now, state = look(entry)
            yield now, state.value
        except ValueError:
            if time.monotonic() - begun >= PATIENCE:
                silent.add(place)
            yield entry, SILENT
