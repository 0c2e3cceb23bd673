"""What can be known of a command before it is sent away: the run folders that it writes, and what speaks against it.

All of it looks at files of this machine, so it is asked only where the job will see the same ones.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from cluster import storage
from cluster.places import Place
from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Where
from ray_jobs.reproduce.aggregate import OUT
from ray_jobs.run.folder import Run
from ray_jobs.tune import search

FOLDERS = ("folder", "data_dir", "inception", "source")
"""Settings of recipes that name files; an empty one, or a name of the hub, is fetched, but for `folder`."""
SCRATCH = ("/tmp", "/var/tmp", "/dev/shm")  # each machine's own


def run_folders(argv: Sequence[str]) -> list[str]:
    """Where a command puts its runs, as far as it says: --out, or what the verb takes without it.

    `train` without --out names its folder when it begins; `begun` finds it later.
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
    return [out for out in [_flag(words, "out")] if out] if verb == "demo" else []


def begun(argv: Sequence[str], since: float, folder: Path = Path(), job: str = "") -> str:
    """The run folder that `reprise train ...` made under `folder`, '' where none.

    Args:
        argv: train R ..., as it is in the run's record.
        since: when it was submitted, seconds since 1970.
        folder: where it was started.
        job: its id, by which a run that says for which job it was made is known.
    """
    line = shlex.join(["reprise", *argv])
    recipe = argv[1].rpartition(".")[2]
    for path in sorted((folder / "runs").glob(f"{recipe}-seed*/run.json"), reverse=True):
        try:
            told = json.loads(path.read_text())
            fits = told["command"] == line and datetime.fromisoformat(told["started"]).timestamp() >= since - 1
            if told.get("job") == job if told.get("job") else fits:
                return str(path.parent)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return ""


def continuing(argv: Sequence[str], since: float, job: str = "") -> list[str]:
    """The command that goes on with what `argv` began as the job that was submitted then; all verbs but `train` do so by themselves.

    Raises:
        UsageError: its run is finished.
    """
    if argv[0] != "train" or _flag(argv, "help") is not None:
        return list(argv)
    run = next(iter(run_folders(argv)), "") or begun(argv, since, job=job)
    if not run or not Run.at(run).exists():
        return list(argv)
    if Run.open(run).result:
        raise UsageError(
            f"{run} is finished: there is nothing to go on with. `reprise evaluate {run}` measures it again."
        )
    return ["resume", run]


def against(argv: Sequence[str], place: Place) -> list[str]:
    """Every reason that the command's files give against it; none where the job will see other files than these."""
    outs = run_folders(argv)
    if place.copies and not any("://" in out for out in outs):
        return []
    found = _conflicts(argv)
    return found if place.copies else [*found, *_unwritable(outs), *_missing_data(argv)]


def doubts(argv: Sequence[str], place: Place, workdir: Path) -> list[str]:
    """What may be wrong with where the job's files lie, one sentence each."""
    if not place.elsewhere:
        return []
    outs = [out for out in run_folders(argv) if "://" not in out]
    if place.copies:
        return [*_own_to_a_node(outs), *_deleted_later(argv, outs)]
    away = [out for out in outs if not Path(out).absolute().is_relative_to(workdir)]
    asked = [(workdir, "The working directory"), *((Path(out).absolute(), "--out") for out in away)]
    return [told for path, what in asked if (told := storage.doubt(path, what))]


def _own_to_a_node(outs: list[str]) -> list[str]:
    return [
        f"--out {out} lies in a folder that each machine has for itself: give one that outlives the cluster's nodes, "
        "such as /shared/runs/x or s3://bucket/x."
        for out in outs
        if Path(out).is_absolute() and any(Path(out).is_relative_to(top) for top in SCRATCH)
    ]


def _deleted_later(argv: Sequence[str], outs: list[str]) -> list[str]:
    writes = argv[0] in ("train", "tune", "reproduce", "demo")
    kept = any(Path(out).is_absolute() for out in outs) or "://" in " ".join(run_folders(argv))
    if not writes or kept:
        return []
    return [
        "It runs in a copy of this folder that the cluster deletes later: give --out on storage that outlives it, "
        "such as /shared/runs/x or s3://bucket/x, to keep its results."
    ]


def _conflicts(argv: Sequence[str]) -> list[str]:
    """Run folders that hold something else, or that cannot be gone on with."""
    verb, *words = argv
    looks: dict[str, Callable[[str], object]] = {
        "train": _free,
        "resume": _unfinished,
        "tune": _holds_search if "--resume" in words else partial(_holds_no_other, words),
    }
    asked = [partial(looks[verb], out) for out in run_folders(argv)] if verb in looks else []
    return _refusals([*asked, *(_plans(words) if verb == "reproduce" else [])])


def _refusals(looks: Sequence[Callable[[], object]]) -> list[str]:
    told = []
    for look in looks:
        try:
            look()
        except UsageError as error:
            told.append(str(error))
        except ValueError as error:
            told.append(f"A folder of the command cannot be used: {error}.")
    return told


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
    told = []
    for out in (Path(out).absolute() for out in outs if "://" not in out):
        there = next(p for p in (out, *out.parents) if p.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            told.append(f"{out} cannot be written ({there} does not allow it): choose another --out.")
    return told


def _missing_data(argv: Sequence[str]) -> list[str]:
    """Settings that name files which are not there."""
    verb, *words = argv
    if verb in ("train", "tune") and "--resume" not in words:
        spec = _order(verb, words).spec
        return _missing(spec.recipe, spec.settings)
    if verb == "reproduce":
        recipes, given = _reproduced(words)
        return [told for recipe in recipes for told in _missing(recipe, given.get("settings") or {})]
    return []


def _missing(recipe: str, given: Mapping[str, Any]) -> list[str]:
    from ray_jobs.recipe.settings import known

    told = []
    for name, setting in known(recipe).items():
        value = given.get(name, setting.default)
        if name not in FOLDERS or not isinstance(value, str):
            continue
        if name == "folder" and not value:
            told.append(f"{recipe} reads data that must be fetched first: give --folder, {setting.help}")
        elif value.startswith(("/", ".", "~")) and not Path(value).expanduser().exists():
            told.append(f"There is no {value}, which --{name} of {recipe} names.")
    return told


# ---- reading the command, as its verb will


def _ordered(verb: str, words: list[str]) -> list[str]:
    if verb == "tune" and (resumed := _flag(words, "resume")):
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

    said = options.parse("reprise reproduce", words, options.of(reproduce))
    return said.words, said.options


def _flag(words: Sequence[str], name: str) -> str | None:
    """What follows --name; '' where nothing does, None where it is not there."""
    for at, word in enumerate(words):
        if word.partition("=")[0] in (f"--{name}", "-o" if name == "out" else f"--{name}"):
            return word.partition("=")[2] if "=" in word else next(iter(words[at + 1 : at + 2]), "")
    return None
