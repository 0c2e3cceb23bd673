"""What a user asks of a place: `--on` a place or a profile, resources, variables, and the place's own options."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster import places, profiles
from cluster.job import LauncherError
from ray_jobs.command import options
from ray_jobs.errors import UsageError, unknown
from ray_jobs.recipe.settings import Setting, documented, typed

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
        Setting("memory", str, "", "of each node that the command's own process needs, such as 4GiB."),
        Setting("env", str, "", "variables for the job, NAME=VALUE, or NAME to pass mine on, quoted as in a shell."),
        Setting("python", str, "", "interpreter that runs the command there."),
        Setting("dry_run", bool, False, "print what would be sent, and every reason against it, and send nothing."),
    )
}
NOT_IN_PROFILES = ("name", "dry_run")


@dataclass(frozen=True)
class Order:
    """A command, a place by its name, and what was given for it, each typed."""

    argv: tuple[str, ...]
    place: str
    profile: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the place's launcher."""
    wanted: Mapping[str, Any] = field(default_factory=dict)
    """Those of GENERAL."""
    env: Mapping[str, str] = field(default_factory=dict)
    """The profile's variables, or an earlier job's; those of `wanted` come on top."""


def read(verb: str, argv: Sequence[str], on: str = "") -> Order:
    """An order from a command line; what it says comes before what the profile says.

    Args:
        verb: submit or resubmit, for its sentences and help.
        argv: options, and then the command, for submit.
        on: the place, where it is not for the command line to say.

    Raises:
        UsageError: no such place, profile or option, or a value that cannot be.
        SystemExit: help was asked for and given.
    """
    try:
        place, profile, said = (on, "", {}) if on else _resolve(_on(argv))
        own = options_of(place)
    except LauncherError as error:
        raise UsageError(str(error)) from None
    general = {k: s for k, s in GENERAL.items() if not on or k != "on"}
    try:
        given = options.parse(f"{verb} --on {place}", argv, general | own, rest=True)
    except options.HelpWanted:
        _help(verb, place, general, own)
        raise SystemExit(0) from None
    values = _of_profile(profile, place, said, general | own) | given.options
    wanted = {k: v for k, v in values.items() if k in general and k not in ("on", "gpus_per_node")}
    if (gpus := _gpus(given.options, values)) is not None:
        wanted["gpus"] = gpus
    chosen = {k: v for k, v in values.items() if k in own}
    env = _env(said["env"]) if "env" in said else {}
    return Order(tuple(given.words), place, profile, chosen, wanted, env)


def options_of(place: str) -> dict[str, Setting]:
    """The options that a place has, with help from its launcher's docstrings; --python may be one of both."""
    told = documented(places.launcher_class(place))
    return {
        o.name: Setting(o.name, o.type, o.default, told.get(o.name, ""))
        for o in places.options(place).values()
        if o.name not in GENERAL or o.name == "python"
    }


def variables(text: str) -> dict[str, str]:
    """The variables that `--env` names.

    Raises:
        UsageError: a name that cannot be one, or one to pass on that is not set here.
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
    """The place that a command line names before its verb; all other options may be the place's own."""
    tokens = list(argv)
    while tokens and tokens[0].startswith("-"):
        name, equals, value = tokens.pop(0).partition("=")
        if not equals and tokens and not tokens[0].startswith("--") and name not in ("--dry-run", "--dry_run"):
            value = tokens.pop(0)
        if name == "--on" and value:
            return value
    return str(GENERAL["on"].default)


def _resolve(on: str) -> tuple[str, str, profiles.Profile]:
    """The place behind a name, the profile's name where it is one, and what the profile says."""
    known = profiles.load(Path.cwd())
    if on not in known:
        places.place(on, known)
        return on, "", {}
    said = dict(known[on])
    told = said.pop("on", None)
    if told is None and on not in places.PLACES:
        where = next(iter(said.values())).where if said else "clusters.yaml"
        raise UsageError(f"{where}: the profile '{on}' names no place: add `on: slurm`, or another of {_allowed()}.")
    place = str(told.content) if told else on
    if place not in places.PLACES:
        raise UsageError(f"{told.where if told else on}: {unknown('place', place, list(places.PLACES))}")
    return place, on, said


def _of_profile(profile: str, place: str, said: profiles.Profile, known: Mapping[str, Setting]) -> dict[str, Any]:
    """A profile's values, typed; every wrong one is told at once."""
    values, wrong = {}, []
    allowed = [k for k in known if k not in NOT_IN_PROFILES]
    for key, value in said.items():
        if key == "env":
            continue
        try:
            values[key] = _typed(key, value, known) if key in allowed else _refuse(key, value, profile, place, allowed)
        except UsageError as error:
            wrong.append(str(error))
    if wrong:
        raise UsageError(" ".join(wrong))
    return values


def _refuse(key: str, value: profiles.Value, profile: str, place: str, allowed: list[str]) -> None:
    raise UsageError(f"{value.where}: {unknown('key', key, ['on', *allowed], of=f'The profile {profile} ({place})')}")


def _typed(key: str, value: profiles.Value, known: Mapping[str, Setting]) -> Any:
    setting = known[key]
    several = setting.type == tuple[str, ...]
    content = [value.content] if several and isinstance(value.content, str) else value.content
    try:
        return typed("", known, {key: list(content) if isinstance(content, tuple) else content})[key]
    except UsageError:
        takes = "a text or a list of texts" if several else setting.typename
        raise UsageError(f"{value.where}: {key} takes {takes}, not {content!r}.") from None


def _env(value: profiles.Value) -> dict[str, str]:
    content = value.content if isinstance(value.content, dict) else {}
    return {name: _variable(f"env in {value.where}", name, text) for name, text in content.items()}


def _gpus(given: Mapping[str, Any], values: Mapping[str, Any]) -> float | None:
    """GPUs of each node, by either name; what the command line says comes first."""
    for said in (given, values):
        found = {said[name] for name in ("gpus", "gpus_per_node") if name in said}
        if len(found) > 1:
            raise UsageError("--gpus and --gpus-per-node mean the same: give one.")
        if found:
            return found.pop()
    return None


def _allowed() -> str:
    return ", ".join(places.PLACES)


def _help(verb: str, place: str, general: Mapping[str, Setting], own: Mapping[str, Setting]) -> None:
    form, summary = {
        "submit": (
            "submit [options] VERB ...",
            "Send a command of reprise to a place where it goes on without this terminal.",
        ),
        "resubmit": (
            "resubmit JOB [options]",
            "Send a job again; a run goes on in the same folder. Options replace the job's.",
        ),
    }[verb]
    rest = {name: setting for name, setting in general.items() if name not in own}
    options.usage(f"reprise {form}", summary, {"options": rest, f"options of --on {place}": own})
