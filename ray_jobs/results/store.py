"""Measured results: one JSON file for each reproduced recipe, written by `reprise reproduce`, read by list and report.

The project keeps its own in `results/` of the checkout; an installed wheel has none, so a folder is named with --results.
This module imports little, because `reprise list` must answer at once.
"""

from __future__ import annotations

import functools
import json
import math
import warnings
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

from ray_jobs.errors import UsageError
from ray_jobs.recipe.declare import Claim
from ray_jobs.run import records
from ray_jobs.run.files import opened

ROOT = Path(__file__).resolve().parents[2]
POINTS = 100
FRESH = "fresh"
"""The folder, in a folder of results, of those on seeds that were not seen when the claims were set."""


@dataclass(frozen=True)
class Result:
    """One reproduction of a recipe: the claim's metric over its seeds, and how it was measured."""

    recipe: str
    claim: Claim | None
    """The claim as it stood when this was measured; None for a run of a recipe that makes none."""
    command: str
    seeds: list[int] = field(default_factory=list)
    """The seeds that finished, in the order of `values`."""
    values: list[float] = field(default_factory=list)
    """The claim's metric for each of `seeds`."""
    failures: dict[str, str] = field(default_factory=dict)
    """Seeds that gave no value, and why."""
    mean: float | None = None
    iqm: float | None = None
    interval: tuple[float, float] | None = None
    """95% bootstrap interval of the mean."""
    verdict: str = "not shown"
    holds: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings that differ from the recipe's own."""
    seconds: list[float] = field(default_factory=list)
    """Training time of each seed, evaluation included."""
    jobs: int = 1
    """Seeds that ran at the same time on one machine, which slows each."""
    metrics: dict[str, list[float | None]] = field(default_factory=dict)
    """Every metric of the seeds' results, in the order of `seeds`."""
    splits: dict[str, str] = field(default_factory=dict)
    """The part of the data, or the kind of environments, that each metric was measured on; empty in records of earlier versions."""
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    git: list[str] = field(default_factory=list)
    """The commits that the seeds ran on: one, unless a seed was finished earlier."""
    date: str = ""
    curves: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    """For each plotted metric, `steps` [N] and `values` [S, N] with null where a seed has none."""
    main: str = ""
    """The metric of `values` where there is no claim."""

    @property
    def metric(self) -> str:
        """The metric of `values`: the claim's, or the main one of a recipe without a claim."""
        return self.claim.metric if self.claim else self.main


def is_fresh(result: Result) -> bool:
    """Whether its seeds do not start at 0."""
    return min([*result.seeds, *map(int, result.failures)], default=0) > 0


def folder(given: str | Path | None = None) -> Path | None:
    """The folder of results: the one given, else the checkout's own, else None (an installed wheel has none)."""
    if given is not None:
        return Path(given)
    return ROOT / "results" if (ROOT / "pyproject.toml").is_file() else None


def save(result: Result, where: Path) -> Path:
    """Write `<where>/<recipe>.json`, whole or not at all."""
    from ray_jobs.run.files import write

    path = where / f"{result.recipe}.json"
    write(path, (_lines(asdict(result) | {"metric": result.metric}) + "\n").encode())
    return path


def _lines(record: Mapping[str, Any]) -> str:
    """JSON with one line for each field, so that a new measurement reads well as a diff."""
    lines = [f" {json.dumps(k)}: {json.dumps(v, allow_nan=False, default=str)}" for k, v in record.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


def read(path: Path) -> Result:
    """One result, each field checked; fields of a newer version are ignored.

    Raises:
        ValueError: the file is not a result.
    """
    try:
        with opened(path, "rb") as file:
            record = records.parsed(file.read(records.LARGEST + 1), str(path))
        records.newer(record, str(path))
        if wrong := _misfit(record):
            raise ValueError(wrong)
        known = {f.name for f in fields(Result)}
        claim = None if record["claim"] is None else Claim(**record["claim"])
        return Result(**{k: v for k, v in record.items() if k in known} | {"claim": claim})
    except (OSError, ValueError, TypeError, KeyError, UsageError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path} is not a result of 'reprise reproduce' ({why}): measure again.") from None


class ClaimRecord(TypedDict, total=False):
    """A claim in a result."""

    metric: str
    at_least: float | None
    at_most: float | None
    seeds: records.Positive


class CurveRecord(TypedDict):
    """A learning curve in a result."""

    steps: list[float]
    values: list[list[float | None]]


@functools.cache
def _types() -> dict[str, Any]:
    """The type of each field of a result."""
    types = get_type_hints(Result) | {"claim": ClaimRecord | None, "curves": dict[str, CurveRecord]}
    return types | {"jobs": records.Positive}


def _misfit(record: Mapping[str, Any]) -> str:
    """What is wrong with the fields of a result; '' where they fit."""
    wrong = (records.misfit(record[name], type_, name) for name, type_ in _types().items() if name in record)
    if found := next(filter(None, wrong), ""):
        return found
    if not _finite(record):
        return "it holds a number that is not finite"
    name = record["recipe"]
    if {"..", ""} & set(name.split("/")) or set("\\`|<>\"'") & set(name) or not name.isprintable() or len(name) > 200:
        return f"the recipe cannot be named {records.shown(record['recipe'])}"
    seeds = len(record.get("seeds", []))
    per_seed = {"values": record.get("values", []), **record.get("metrics", {})}
    if odd := next((name for name, values in per_seed.items() if len(values) != seeds), ""):
        return f"{odd} has not one value for each of {seeds} seeds"
    rows = ((key, row, c["steps"]) for key, c in record.get("curves", {}).items() for row in c["values"])
    return next((f"a curve of {key} has not one value for each step" for key, row, s in rows if len(row) != len(s)), "")


def _finite(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (math.isfinite(value) if isinstance(value, float) else True) and all(map(_finite, inner))


def load(where: Path | None) -> dict[str, Result]:
    """Every result in a folder, by recipe; a damaged file is skipped with a warning."""
    found = {}
    for path in sorted(where.glob("*.json")) if where else []:
        try:
            result = read(path)
            found[result.recipe] = result
        except ValueError as error:
            warnings.warn(str(error), stacklevel=2)
    return found


def measured(recipe: str, where: str | Path | None = None) -> str:
    """The result of a recipe as `reprise list` shows it: '499.8 [499.1, 500], 5 seeds', with ✗ before it where the claim fails."""
    results = folder(where)
    path = results / f"{recipe}.json" if results else None
    if path is None or not path.is_file():
        return ""
    try:
        result = read(path)
    except ValueError:
        return "damaged"
    return f"{'' if result.holds else '✗ '}{describe(result)}, {count(result)}"


def describe(result: Result) -> str:
    """Mean and interval, to four digits."""
    if result.mean is None:
        return "no value"
    low_high = result.interval and f" [{short(result.interval[0])}, {short(result.interval[1])}]"
    return short(result.mean) + (low_high or "")


def count(result: Result) -> str:
    """'5 seeds', or '4 of 5 seeds' where one failed."""
    done, tried = len(result.values), len(result.values) + len(result.failures)
    return f"{done} of {tried} seeds" if done < tried else f"{done} seed{'' if done == 1 else 's'}"


def caption(result: Result) -> str:
    """The text below a result's learning curves; empty where they show the claim's own metric."""
    if "train_return" not in result.metrics:
        return ""
    return (
        "Means of the newest 100 training episodes, which explore; the claim is about greedy ones after the training."
    )


def median(result: Result) -> str:
    """The median seed's duration, or ''."""
    return span(sorted(result.seconds)[len(result.seconds) // 2]) if result.seconds else ""


def short(x: float) -> str:
    """A number to four significant digits, without exponents from 0.0001 to 10 million."""
    return f"{x:,.0f}" if 1000 <= abs(x) < 1e7 else f"{x:.4g}"


def span(seconds: float) -> str:
    """A duration in words: '8.2 s', '42 s', '3 min', '2.4 h'."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def main_metric(names: Iterable[str], wanted: str) -> str | None:
    """The logged metric that is nearest to `wanted`: itself, a return, or a loss."""
    there = [n for n in names if n not in ("step", "time")]
    order = [wanted, *(n for n in there if n.endswith(f"/{wanted}")), "episode_return", "loss"]
    order += [n for n in there if "loss" in n] + there
    return next((n for n in order if n in there), None)


def thin(runs: Sequence[Sequence[Mapping[str, float]]], key: str, points: int = POINTS) -> dict[str, list[Any]]:
    """Curves of several runs on one grid of at most `points` steps: {'steps': [N], 'values': [S, N]}.

    Each point is the mean of what a run logged in its bin; a hole takes the line between its neighbours; before a run's
    first and after its last logged step there is None.
    """
    logged = [[(m["step"], m[key]) for m in run if key in m and math.isfinite(m[key])] for run in runs]
    steps = sorted({step for run in logged for step, _ in run})
    if not steps:
        return {"steps": [], "values": [[] for _ in runs]}
    n = min(points, len(steps))
    width = (steps[-1] - steps[0]) / n or 1.0
    centres = [steps[0] + (i + 0.5) * width for i in range(n)] if n < len(steps) else [float(s) for s in steps]
    bins = [_binned(run, centres) for run in logged]
    return {"steps": [round(c, 3) for c in centres], "values": [_filled(b, centres) for b in bins]}


def _binned(run: Sequence[tuple[float, float]], centres: Sequence[float]) -> list[float | None]:
    middles = [(a + b) / 2 for a, b in pairwise(centres)]
    bins: list[list[float]] = [[] for _ in centres]
    for step, value in run:
        bins[bisect_left(middles, step)].append(value)
    return [sum(b) / len(b) if b else None for b in bins]


def _filled(values: Sequence[float | None], at: Sequence[float]) -> list[float | None]:
    known = [i for i, v in enumerate(values) if v is not None]
    out = [None if v is None else float(f"{v:.6g}") for v in values]
    for a, b in pairwise(known):
        for i in range(a + 1, b):
            share = (at[i] - at[a]) / (at[b] - at[a])
            out[i] = float(f"{values[a] + share * (values[b] - values[a]):.6g}")  # type: ignore[operator]
    return out
