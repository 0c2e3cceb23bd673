"""The verbs submit, status, logs, cancel and jobs: a command is checked, sent to a launcher and remembered on disk."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cluster import store
from cluster.job import Job, Launcher, Resources, State, parse_memory
from ray_jobs.recipe import UsageError

if TYPE_CHECKING:
    from rich.console import Console

Check = Callable[[list[str]], object]
Place = Literal["local", "ray"]
COLOURS = {"succeeded": "green", "failed": "red", "lost": "red", "cancelled": "yellow", "running": "cyan"}
WRITES = ("train", "tune", "reproduce", "demo")


def submit(
    argv: list[str],
    check: Check | None = None,
    *,
    on: Place = "local",
    name: str = "",
    cpus: float = 1,
    gpus: float = 0,
    memory: str = "",
    address: str = "",
    env: str = "",
    python: str = "",
    dry_run: bool = False,
) -> int:
    """Send `reprise VERB R ...`, the very same command, to a place where it goes on without this terminal.

    Args:
        argv: VERB R ...
        check: refuses a command that cannot be (UsageError), before any place is asked.
        on: local, a detached process on this machine; ray, a Ray cluster.
        name: of the job; else the recipe's.
        cpus: cores that the command's own process needs; workers ask for theirs.
        gpus: GPUs that the command's own process needs.
        memory: that the command's own process needs, such as 4GiB.
        address: of the Ray cluster's dashboard, http://HOST:8265; else RAY_ADDRESS, else this machine.
        env: variables for the job, NAME=VALUE or NAME to pass mine on, separated by spaces and quoted as in a shell.
        python: interpreter that runs the command there; else this one, or 'python' on another machine.
        dry_run: print what would be sent, and every reason against it, and send nothing.

    Returns:
        0; 1 where a dry run found reasons against it.

    Raises:
        UsageError: the command, an option or the place cannot be.
    """
    if not argv:
        raise UsageError("There is nothing to submit: write the command behind it, as in `reprise submit train R`.")
    if argv[0] in ("submit", "status", "logs", "cancel", "jobs"):
        raise UsageError(f"`{argv[0]}` cannot be submitted: it is about jobs, and no work of its own.")
    if check is not None:
        check(list(argv))
    with _usage():
        launcher = launcher_for(on, address)
        wanted = Resources(cpus, gpus, parse_memory(memory) if memory else 0)
        command = (python or _python(on, launcher), "-m", "ray_jobs.cli", *argv)
        job = Job(name or _name(argv), command, wanted, variables(env), Path.cwd())
        reasons = _sane(wanted) + launcher.check(job)
        if dry_run:
            return _show_plan(launcher, job, reasons)
        if reasons:
            raise UsageError(" ".join(reasons))
        id = launcher.submit(job)
        _remember(id, on, job, getattr(launcher, "url", ""))
    _tell_submitted(id, on, argv)
    return 0


def status(job: str) -> int:
    """Say how a submitted job is doing."""
    with _usage():
        entry = store.find(job)
        state = _state(entry)
    out = _console()
    out.print(f"{entry.id}  {_coloured(state.value)}  on {entry.on} {entry.address}".rstrip())
    out.print(f"  submitted {_when(entry.submitted)} from {entry.workdir}", markup=False)
    out.print(f"  {shlex.join(entry.command)}", markup=False)
    if state is State.lost:
        out.print("  It ended without an exit code: the machine went down, or the job was killed from outside.")
    if state in (State.failed, State.lost):
        out.print(f"  `reprise logs {entry.id}` shows what it printed.", markup=False)
    return 0


def logs(job: str, *, follow: bool = False) -> int:
    """Print a job's output.

    Args:
        job: its id, or the beginning of it.
        follow: go on until the job has ended; the exit code then says how it ended.
    """
    with _usage():
        entry = store.find(job)
        launcher = launcher_for(entry.on, entry.address)
        for piece in launcher.logs(entry.id, follow):
            sys.stdout.write(piece)
            sys.stdout.flush()
        return int(follow and _state(entry) is not State.succeeded)


def cancel(job: str) -> int:
    """End a job; it has a while to save its work."""
    with _usage():
        entry = store.find(job)
        if (state := _state(entry)).ended:
            print(f"{entry.id} has already {'been ' * (state in (State.cancelled, State.lost))}{state.value}.")
            return 0
        launcher = launcher_for(entry.on, entry.address)
        launcher.cancel(entry.id)
    grace = getattr(launcher, "grace", 0)
    print(f"Asked {entry.id} to stop; it has {grace:g} s to save its work. `reprise logs -f {entry.id}` follows.")
    return 0


def jobs() -> int:
    """List every job that was submitted from here, newest first."""
    from rich.table import Table

    known, damaged = store.entries()
    if damaged:
        print(f"Skipped damaged entries in {store.jobs_folder()}: {', '.join(damaged)}.", file=sys.stderr)
    if not known:
        print("No job was submitted from here yet: `reprise submit train ddpm_digits` would be the first.")
        return 0
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("JOB", "STATE", "ON", "SUBMITTED", "COMMAND"):
        table.add_column(title, overflow="fold", no_wrap=title != "COMMAND")
    for entry, state in _states(known):
        table.add_row(entry.id, _coloured(state), entry.on, _when(entry.submitted), _escaped(entry.command))
    _console().print(table)
    return 0


def launcher_for(on: str, address: str = "") -> Launcher:
    """The launcher of this name.

    Raises:
        UsageError: there is none, or it takes no address.
    """
    from cluster.local import Local
    from cluster.ray_api import Ray, address_of

    if on == "ray":
        return Ray(address_of(address))
    if on != "local":
        raise UsageError(f"Jobs can be submitted --on local or ray, not {on!r}.")
    if address:
        raise UsageError("A local job has no --address: leave it out, or submit --on ray.")
    return Local()


def variables(text: str) -> dict[str, str]:
    """The variables that `--env` names.

    Raises:
        UsageError: a name that cannot be one, or one to pass on that is not set here.
    """
    found = {}
    try:
        words = shlex.split(text)
    except ValueError:
        raise UsageError(f"--env {text!r} has an open quote: quote its values as in a shell.") from None
    for word in words:
        name, equals, value = word.partition("=")
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise UsageError(f"--env takes NAME=VALUE or NAME, and {name!r} cannot name a variable.")
        if not equals and name not in os.environ:
            raise UsageError(f"--env {name} should pass on a variable that is not set here: set it, or give a value.")
        found[name] = value if equals else os.environ[name]
    return found


def _name(argv: list[str]) -> str:
    """The recipe's short name, or the verb, as it may name a job."""
    word = argv[1] if len(argv) > 1 and not argv[1].startswith("-") else argv[0]
    last = word.rstrip("/").rpartition("/")[2].rpartition(".")[2]
    return re.sub(r"[^a-z0-9_-]+", "-", last.lower()).strip("-_")[:48].rstrip("-_") or "job"


def _python(on: str, launcher: Launcher) -> str:
    """This interpreter; where a cluster's head is another machine, the one that its PATH finds."""
    here = on == "local" or re.match(r"https?://(127\.|localhost|\[::1\])", getattr(launcher, "url", ""))
    return sys.executable if here else "python"


def _sane(wanted: Resources) -> list[str]:
    sizes = {"--cpus": wanted.cpus, "--gpus": wanted.gpus}
    return [f"{name} must be a number from 0 on, not {size:g}." for name, size in sizes.items() if not size >= 0]


def _show_plan(launcher: Launcher, job: Job, reasons: list[str]) -> int:
    print(launcher.render(job), end="")
    for reason in reasons:
        print(f"cannot run: {reason}")
    print("Nothing was sent." if reasons else "Nothing was sent; nothing speaks against it.")
    return int(bool(reasons))


def _remember(id: str, on: str, job: Job, address: str) -> None:
    try:
        store.remember(id, on, job, address)
    except OSError as error:
        why = f"{store.jobs_folder()} cannot be written ({error.strerror})"
        raise UsageError(f"The job runs as {id} on {on} {address}, but {why}: note the id, and mend that.") from None


def _tell_submitted(id: str, on: str, argv: list[str]) -> None:
    print(f"Submitted {id}. `reprise logs -f {id}` follows it, `reprise cancel {id}` ends it.")
    if on == "ray" and argv[0] in WRITES and not re.search(r"(^|\s)--out[= ](/|\w+://)", " ".join(argv)):
        print(
            "It runs in a copy of this folder that the cluster deletes later: give --out on storage that outlives it, "
            "such as /shared/runs/x or s3://bucket/x, to keep its results."
        )


def _state(entry: store.Entry) -> State:
    """The final state if it was seen before, else what the launcher says now."""
    if entry.state:
        return State(entry.state)
    state = launcher_for(entry.on, entry.address).state(entry.id)
    store.seen(entry, state)
    return state


def _states(known: list[store.Entry]) -> Iterator[tuple[store.Entry, str]]:
    """Each job with its state in words; a cluster that does not answer is asked once."""
    silent: set[str] = set()
    for entry in known:
        if not entry.state and entry.address and entry.address in silent:
            yield entry, "no answer"
            continue
        try:
            yield entry, _state(entry).value
        except ValueError:
            silent.add(entry.address)
            yield entry, "no answer"


@contextlib.contextmanager
def _usage() -> Iterator[None]:
    """A launcher's refusal is the user's to mend."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from None


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def _coloured(state: str) -> str:
    return f"[{COLOURS[state]}]{state}[/]" if state in COLOURS else state


def _escaped(command: tuple[str, ...]) -> str:
    from rich.markup import escape

    words = command[3:] if command[1:3] == ("-m", "ray_jobs.cli") else command
    return escape(shlex.join(words))


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
