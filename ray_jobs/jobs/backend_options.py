"""The options of `reprise submit` and `resubmit`: `--on` a backend or a profile, resources, variables, and the backend's own."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster import backends, profiles
from ray_jobs.command import options
from ray_jobs.command.options import Form
from ray_jobs.command.verbs import summary
from ray_jobs.errors import UsageError, printable, unknown
from ray_jobs.jobs.verbs import usage
from ray_jobs.recipe.settings import Setting, documented, shown, typed

GENERAL = {
    s.name: s
    for s in (
        Setting(
            "on", str, "local", "where to: local (this machine's background), ray, slurm, kubernetes, or a profile."
        ),
        Setting("name", str, "", "of the job; else the recipe's."),
        Setting("nodes", int, 1, "machines that the job takes."),
        Setting("cpus", float, 1, "cores of each node that the command's own process needs; workers ask for theirs."),
        Setting("gpus", float, 0, "GPUs of each node that the command's own process needs."),
        Setting("gpus_per_node", float, 0, "the same as --gpus."),
        Setting(
            "gpu_memory", float, 0, "GiB of each GPU: a model whose training does not fit is refused; 0: not checked."
        ),
        Setting("memory", str, "", "of each node that the command's own process needs, such as 4GiB."),
        Setting("env", str, "", "variables for the job, NAME=VALUE, or NAME to pass mine on, quoted as in a shell."),
        Setting("python", str, "", "interpreter that runs the command there."),
        Setting("dry_run", bool, False, "print what would be sent, and every reason against it, and send nothing."),
    )
}
"""Options that every backend has, by name."""
NOT_IN_PROFILES = ("name", "dry_run")
OWN = "options of --on {}"
"""Title of a backend's own options."""


@dataclass(frozen=True)
class SubmitRequest:
    """A command, the backend that should run it, and the options given for it, each typed."""

    argv: tuple[str, ...]
    """The command, without `reprise`."""
    backend: str
    """A key of `cluster.backends.BACKENDS`."""
    profile: str = ""
    """The profile that named the backend; '' where the user named the backend itself."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the backend's launcher."""
    wanted: Mapping[str, Any] = field(default_factory=dict)
    """Options of `GENERAL`."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables of the profile, or of an earlier job; `wanted["env"]` overrides them."""


def read(verb: str, argv: Sequence[str], on: str = "") -> SubmitRequest:
    """Read a request from a command line. Its options override the profile's.

    Args:
        verb: submit or resubmit, for messages and help.
        argv: options, and then the command, for submit.
        on: the backend, where the command line may not choose it.

    Raises:
        UsageError: there is no such backend, profile or option, or a value is wrong.
        SystemExit: the user asked for help, and it was printed.
    """
    with usage():
        backend, profile, keys = (on, "", {}) if on else _resolve(_on(argv))
        form = _form(verb, backend, choose=not on)
    words, given = options.read(form, argv, rest=True)
    own, general = options_of(backend), {k: s for k, s in GENERAL.items() if not on or k != "on"}
    values = _of_profile(profile, backend, keys, general | own) | given
    wanted = {k: v for k, v in values.items() if k in general and k not in ("on", "gpus_per_node")}
    if (gpus := _gpus(given, values)) is not None:
        wanted["gpus"] = gpus
    chosen = {k: v for k, v in values.items() if k in own}
    env = _env(keys["env"]) if "env" in keys else {}
    return SubmitRequest(tuple(words), backend, profile, chosen, wanted, env)


def form_of(verb: str, argv: Sequence[str]) -> Form:
    """What the command line of submit or resubmit may hold, behind --on or behind the job's id.

    Raises:
        UsageError: there is no such backend or profile.
    """
    with usage():
        return _form(verb, _resolve(_on(argv))[0], choose=verb == "submit")


def _form(verb: str, backend: str, *, choose: bool) -> Form:
    words = "[options] VERB ..." if choose else "JOB [options]"
    own = options_of(backend)
    general = {k: s for k, s in GENERAL.items() if k not in own and (choose or k != "on")}
    groups = {"options": general, OWN.format(backend): own}
    return Form(f"{verb} --on {backend}", f"reprise {verb} {words}", summary(verb), groups)


def options_of(backend: str) -> dict[str, Setting]:
    """The options of a backend, with help from its launcher's docstrings; --python may also be one of `GENERAL`.

    Raises:
        LauncherError: there is no such backend, or a package that it needs is not installed here.
    """
    bases = reversed(backends.launcher_class(backend).__mro__[:-1])  # a launcher may inherit its options
    help_ = {name: text for cls in bases for name, text in documented(cls).items()}
    return {
        o.name: Setting(o.name, o.type, o.default, help_.get(o.name, ""))
        for o in backends.options(backend).values()
        if o.name not in GENERAL or o.name == "python"
    }


def variables(text: str) -> dict[str, str]:
    """The variables that `--env` names.

    Raises:
        UsageError: a name is no variable's name, or one to pass on is not set here.
    """
    try:
        words = shlex.split(text)
    except ValueError:
        raise UsageError(f"--env {text!r} has an open quote: quote its values as in a shell.") from None
    pairs = (word.partition("=") for word in words)
    return {name: _variable("--env", name, value if equals else None) for name, equals, value in pairs}


def _variable(what: str, name: str, value: str | None) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise UsageError(f"{what} takes NAME=VALUE or NAME, and {name!r} cannot name a variable.")
    if value is None and name not in os.environ:
        raise UsageError(f"{what} should pass on {name}, which is not set here: set it, or give a value.")
    return os.environ[name] if value is None else value


def _on(argv: Sequence[str]) -> str:
    """The value of --on in front of the verb; the other options may be the backend's own, so they are skipped."""
    tokens = list(argv)
    while tokens and tokens[0].startswith("-"):
        name, equals, value = tokens.pop(0).partition("=")
        if not equals and tokens and not tokens[0].startswith("--") and name not in ("--dry-run", "--dry_run"):
            value = tokens.pop(0)
        if name == "--on" and value:
            return value
    return str(GENERAL["on"].default)


def _resolve(on: str) -> tuple[str, str, profiles.Profile]:
    """The backend behind a name, the profile's name where it is a profile, and the profile's other keys."""
    known = profiles.load(Path.cwd())
    for path in profiles.unapproved(Path.cwd()):
        if on in profiles.names(path) or on not in {*backends.BACKENDS, *known}:
            raise UsageError(profiles.refusal(path))
    if on not in known:
        try:
            backends.backend(on, known)
        except ValueError as error:
            raise UsageError(printable(error)) from None
        return on, "", {}
    keys = dict(known[on])
    named = keys.pop("on", None)
    if named is None and on not in backends.BACKENDS:
        where = next(iter(keys.values())).where if keys else "clusters.yaml"
        allowed = ", ".join(backends.BACKENDS)
        raise UsageError(f"{where}: the profile '{on}' names no backend: add `on: slurm`, or another of {allowed}.")
    backend = str(named.content) if named else on
    if backend not in backends.BACKENDS:
        raise UsageError(f"{named.where if named else on}: {unknown('backend', backend, list(backends.BACKENDS))}")
    return backend, on, keys


def _of_profile(profile: str, backend: str, keys: profiles.Profile, known: Mapping[str, Setting]) -> dict[str, Any]:
    """A profile's values, typed; one error names every wrong one."""
    values, wrong = {}, []
    allowed = [k for k in known if k not in NOT_IN_PROFILES]
    for key, value in keys.items():
        if key == "env":
            continue
        try:
            if key not in allowed:
                owner = f"The profile {profile} ({backend})"
                raise UsageError(f"{value.where}: {unknown('key', key, ['on', *allowed], of=owner)}")
            values[key] = _typed(key, value, known)
        except UsageError as error:
            wrong.append(str(error))
    if wrong:
        raise UsageError(" ".join(wrong))
    return values


def _typed(key: str, value: profiles.Value, known: Mapping[str, Setting]) -> Any:
    setting = known[key]
    several = setting.type == tuple[str, ...]
    content = [value.content] if several and isinstance(value.content, str) else value.content
    try:
        return typed("", known, {key: list(content) if isinstance(content, tuple) else content})[key]
    except UsageError:
        takes = "a text or a list of texts" if several else setting.typename
        raise UsageError(f"{value.where}: {key} takes {takes}, not {shown(content)}.") from None


def _env(value: profiles.Value) -> dict[str, str]:
    content = value.content if isinstance(value.content, dict) else {}
    return {name: _variable(f"env in {value.where}", name, text) for name, text in content.items()}


def _gpus(given: Mapping[str, Any], values: Mapping[str, Any]) -> float | None:
    """GPUs of each node, by either name; the command line (`given`) overrides the profile."""
    for source in (given, values):
        found = {source[name] for name in ("gpus", "gpus_per_node") if name in source}
        if len(found) > 1:
            raise UsageError("--gpus and --gpus-per-node mean the same: give one.")
        if found:
            return found.pop()
    return None
