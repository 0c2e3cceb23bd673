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
from ray_jobs.command.options import options_of
from ray_jobs.command.requests import Request, parse
from ray_jobs.errors import UsageError
from ray_jobs.recipe.loading import kind
from ray_jobs.recipe.loading import recipe as named
from ray_jobs.recipe.settings import known
from ray_jobs.recipe.spec import Where
from ray_jobs.reproduce.aggregate import OUT
from ray_jobs.run.folder import Run
from ray_jobs.tune import search


def run_folders(argv: Sequence[str]) -> list[str]:
    """The folders that a command writes its runs to: --out, or what its verb uses without --out.

    `train` without --out chooses its folder when it starts, so it is not among them; `continuation.find_run` finds it later.

    Args:
        argv: the command, without `reprise`.
    """
    request = parse(argv)
    if request.verb == "resume":
        return [request.words[0]]
    if request.verb == "reproduce":
        out = str(request.options.get("out", OUT)).rstrip("/")
        return [f"{out}/{recipe}" for recipe in request.words[0]]
    if request.verb == "tune":
        given = request.options.get("resume") or request.spec.out
        return [given or str(search.default_out(_search_of(request)))]
    found = {"train": request.spec.out, "demo": request.options.get("out")}.get(request.verb)
    return [found] if found else []


def reasons_against(argv: Sequence[str], backend: Backend) -> list[str]:
    """Every reason why the command's files do not allow it; none where the job will see other files than these."""
    outs = run_folders(argv)
    if backend.copies and not any("://" in out for out in outs):
        return []
    found = _conflicts(argv)
    return found if backend.copies else [*found, *_unwritable(outs), *_missing_data(argv)]


def _conflicts(argv: Sequence[str]) -> list[str]:
    """Reasons about run folders: they hold something else, or what they hold cannot be continued."""
    request = parse(argv)
    verb = request.verb
    looks: dict[str, Callable[[str], object]] = {
        "train": _free,
        "resume": _unfinished,
        "tune": _holds_search if "resume" in request.options else partial(_holds_no_other, request),
    }
    asked = [partial(looks[verb], out) for out in run_folders(argv)] if verb in looks else []
    return _refusals([*asked, *(_plans(request) if verb == "reproduce" else [])])


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


def _holds_no_other(request: Request, out: str) -> None:
    search.refuse_others(Path(out), _search_of(request))


def _plans(request: Request) -> list[Callable[[], object]]:
    from ray_jobs.reproduce.reproduce import plan

    recipes, given = request.words[0], request.options
    where = Where(**{k: v for k, v in given.items() if k in {f.name for f in fields(Where)} - {"address"}})
    settings, out, together = given.get("settings") or {}, given.get("out", OUT), given.get("together", 1)
    first = given.get("first_seed", 0)
    return [partial(plan, recipe, given.get("seeds"), settings, out, where, together, first) for recipe in recipes]


def _unwritable(outs: list[str]) -> list[str]:
    reasons = []
    for out in (Path(out).absolute() for out in outs if "://" not in out):
        there = next(p for p in (out, *out.parents) if p.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            reasons.append(f"{out} cannot be written ({there} does not allow it): choose another --out.")
    return reasons


def _missing_data(argv: Sequence[str]) -> list[str]:
    """Reasons about settings that name files which do not exist."""
    request = parse(argv)
    if request.spec.recipe:
        return _missing(request.spec.recipe, request.spec.settings)
    if request.verb == "reproduce":
        given = request.options.get("settings") or {}
        return [reason for recipe in request.words[0] for reason in _missing(recipe, given)]
    return []


def _missing(recipe: str, given: Mapping[str, Any]) -> list[str]:
    """Reasons about a recipe's files; those that can be fetched, such as by a name of the hub, need not be there."""
    reasons = []
    for name, setting in known(recipe).items():
        value = given.get(name, setting.default)
        if not setting.path or not isinstance(value, str):
            continue
        if setting.required and not value:
            reasons.append(f"{recipe} reads data that must be fetched first: give --{name}, {setting.help}")
        elif value.startswith(("/", ".", "~")) and not Path(value).expanduser().exists():
            reasons.append(f"There is no {value}, which --{name} of {recipe} names.")
    return reasons


def too_large(argv: Sequence[str], gpu_memory: float) -> list[str]:
    """The reason why a training of a model does not fit its workers' GPUs, as `train.costs` counts it; none where it does.

    Args:
        gpu_memory: of each GPU, in GiB; 0: nothing is checked.

    Raises:
        UsageError: the memory is negative or not a number.
    """
    if not 0 <= gpu_memory < float("inf"):
        raise UsageError(f"--gpu_memory is that of each GPU in GiB, such as 80, not {gpu_memory:g}.")
    request = parse(argv)
    recipe, where = request.spec.recipe, request.spec.where
    if not gpu_memory or request.verb != "train" or where.accelerator == "cpu" or not _of_a_model(recipe):
        return []
    from ray_jobs.train.costs.counting import ROOM, cost
    from ray_jobs.train.costs.words import GIB, gib, gpus

    found = cost(recipe, request.spec.settings)
    needed = found.on_each(where.workers)
    if needed <= ROOM * gpu_memory * GIB:
        return []
    what = f"{recipe} needs {'more than ' if found.unknown else 'about '}{gib(needed)} on each of --workers {where.workers}"
    advice = "" if found.unknown else f" What fits: {gpus(found, gpu_memory)}."
    return [
        f"{what}, and {ROOM:.0%} of {gpu_memory:g} GiB are free for it: leave --gpu_memory out to send it anyway.{advice}"
    ]


def _of_a_model(recipe: str) -> bool:
    """Whether the engine of a recipe trains models, found without importing it."""
    return bool(recipe) and kind(named(recipe)).engine == "ray_jobs.train.models"


# ---- what the command asks for


def _search_of(request: Request) -> search.Search:
    """The search that `tune` would make."""
    from ray_jobs.tune import tune

    usual = {name: setting.default for name, setting in options_of(tune.tune).items()} | request.options
    named = ("space", "trials", "scheduler", "search", "metric", "mode")
    return tune.made(request.spec, **{name: usual[name] for name in named})
