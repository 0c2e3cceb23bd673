"""Checks of a command before it is submitted: the run folders that it writes, and every reason why it cannot run.

The checks read files of this machine, so they apply only where the job will see the same files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from cluster.backends import Backend
from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Where
from ray_jobs.reproduce.aggregate import OUT
from ray_jobs.run.folder import Run
from ray_jobs.tune import search

FOLDERS = ("folder", "data_dir", "inception", "source")
"""Settings of recipes that name files; an empty one, or a name of the hub, is fetched, but for `folder`."""


def run_folders(argv: Sequence[str]) -> list[str]:
    """The folders that a command writes its runs to: --out, or what its verb uses without --out.

    `train` without --out chooses its folder when it starts, so it is not among them; `continuation.find_run` finds it later.

    Args:
        argv: the command, without `reprise`.
    """
    verb, *words = argv
    if verb == "resume":
        return words[:1]
    if verb in ("train", "tune"):
        return _ordered(verb, words)
    if verb == "reproduce":
        recipes, given = _reproduced(words)
        out = str(given.get("out", OUT)).rstrip("/")
        return [f"{out}/{recipe}" for recipe in recipes]
    return [out for out in [flag(words, "out")] if out] if verb == "demo" else []


def reasons_against(argv: Sequence[str], backend: Backend) -> list[str]:
    """Every reason why the command's files do not allow it; none where the job will see other files than these."""
    outs = run_folders(argv)
    if backend.copies and not any("://" in out for out in outs):
        return []
    found = _conflicts(argv)
    return found if backend.copies else [*found, *_unwritable(outs), *_missing_data(argv)]


def _conflicts(argv: Sequence[str]) -> list[str]:
    """Reasons about run folders: they hold something else, or what they hold cannot be continued."""
    verb, *words = argv
    looks: dict[str, Callable[[str], object]] = {
        "train": _free,
        "resume": _unfinished,
        "tune": _holds_search if "--resume" in words else partial(_holds_no_other, words),
    }
    asked = [partial(looks[verb], out) for out in run_folders(argv)] if verb in looks else []
    return _refusals([*asked, *(_plans(words) if verb == "reproduce" else [])])


def _refusals(looks: Sequence[Callable[[], object]]) -> list[str]:
    reasons = []
    for look in looks:
        try:
            look()
        except UsageError as error:
            reasons.append(str(error))
        except ValueError as error:
            reasons.append(f"A folder of the command cannot be used: {error}.")
    return reasons


def _free(out: str) -> None:
    if Run.at(out).exists():
        raise UsageError(f"{out} already holds a run: submit `resume {out}` to continue it, or choose another --out.")


def _unfinished(out: str) -> None:
    if Run.open(out).result:
        raise UsageError(f"{out} is finished: there is nothing to resume.")


def _holds_search(out: str) -> None:
    if search.load(Path(out)) is None:
        raise UsageError(f"{out} holds no search to resume: it has no {search.FILE}.")


def _holds_no_other(words: list[str], out: str) -> None:
    search.refuse_others(Path(out), _search(words))


def _plans(words: list[str]) -> list[Callable[[], object]]:
    from ray_jobs.reproduce.reproduce import plan

    recipes, given = _reproduced(words)
    where = Where(**{k: v for k, v in given.items() if k in {f.name for f in fields(Where)} - {"address"}})
    settings, out, together = given.get("settings") or {}, given.get("out", OUT), given.get("together", 1)
    return [partial(plan, recipe, given.get("seeds"), settings, out, where, together) for recipe in recipes]


def _unwritable(outs: list[str]) -> list[str]:
    reasons = []
    for out in (Path(out).absolute() for out in outs if "://" not in out):
        there = next(p for p in (out, *out.parents) if p.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            reasons.append(f"{out} cannot be written ({there} does not allow it): choose another --out.")
    return reasons


def _missing_data(argv: Sequence[str]) -> list[str]:
    """Reasons about settings that name files which do not exist."""
    verb, *words = argv
    if verb in ("train", "tune") and "--resume" not in words:
        spec = _order(verb, words).spec
        return _missing(spec.recipe, spec.settings)
    if verb == "reproduce":
        recipes, given = _reproduced(words)
        return [reason for recipe in recipes for reason in _missing(recipe, given.get("settings") or {})]
    return []


def _missing(recipe: str, given: Mapping[str, Any]) -> list[str]:
    from ray_jobs.recipe.settings import known

    reasons = []
    for name, setting in known(recipe).items():
        value = given.get(name, setting.default)
        if name not in FOLDERS or not isinstance(value, str):
            continue
        if name == "folder" and not value:
            reasons.append(f"{recipe} reads data that must be fetched first: give --folder, {setting.help}")
        elif value.startswith(("/", ".", "~")) and not Path(value).expanduser().exists():
            reasons.append(f"There is no {value}, which --{name} of {recipe} names.")
    return reasons


# ---- reading the command as its verb will


def _ordered(verb: str, words: list[str]) -> list[str]:
    if verb == "tune" and (resumed := flag(words, "resume")):
        return [resumed]
    out = _order(verb, words).spec.out
    usual = [str(search.default_out(_search(words)))] if verb == "tune" and not out else []
    return [out] if out else usual


def _order(verb: str, words: list[str]) -> Any:
    from ray_jobs.cli import order

    return order(verb, words)


def _search(words: list[str]) -> search.Search:
    """The search that `tune` would make."""
    from ray_jobs.command import options
    from ray_jobs.tune import tune

    asked = _order("tune", words)
    space = {k.removeprefix("space."): v for k, v in asked.rest.items() if k.startswith("space.")}
    usual = {k: s.default for k, s in options.of(tune.tune).items()} | asked.rest
    return tune.made(asked.spec, space, **{k: usual[k] for k in ("trials", "scheduler", "search", "metric", "mode")})


def _reproduced(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    from ray_jobs.command import options
    from ray_jobs.reproduce.reproduce import reproduce

    parsed = options.parse("reprise reproduce", words, options.of(reproduce))
    return parsed.words, parsed.options


def flag(words: Sequence[str], name: str) -> str | None:
    """The value after --name; '' where there is none, None where the flag is not given."""
    for at, word in enumerate(words):
        if word.partition("=")[0] in (f"--{name}", "-o" if name == "out" else f"--{name}"):
            return word.partition("=")[2] if "=" in word else next(iter(words[at + 1 : at + 2]), "")
    return None
