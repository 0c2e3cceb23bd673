"""The `Result` of a recipe, computed from the folders of its finished seeds, and where it is kept."""

from __future__ import annotations

import contextlib
import json
import math
import platform
import shlex
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray_jobs.recipe.declare import Claim
from ray_jobs.recipe.spec import as_flags
from ray_jobs.reproduce.seeds import Seed
from ray_jobs.results import store
from ray_jobs.results.store import Result
from ray_jobs.run.files import picture, write
from ray_jobs.run.folder import Run
from ray_jobs.run.provenance import now

OUT = "runs/reproduce"


def retrace(plan: Sequence[Seed], *, here: bool = True) -> str:
    """The command that reproduces these seeds, with --out where `here`; a record is for every machine and names no folder of one."""
    first = plan[0]
    out = first.folder.removesuffix(f"/{first.recipe}/seed-{first.number}")
    out_option = ("--out", out) if here and out != str(Path(OUT).resolve()) else ()
    start = ("--first_seed", str(first.number)) if first.number else ()
    together = ("--together", str(first.together)) if first.together > 1 else ()
    settings = ("--settings", json.dumps(first.settings)) if first.settings else ()
    words = [
        "reprise",
        "reproduce",
        first.recipe,
        "--seeds",
        str(len(plan)),
        *start,
        *out_option,
        *as_flags(first.where),
    ]
    return shlex.join([*words, *together, *settings])


def collect(claim: Claim | None, plan: Sequence[Seed], why: Mapping[int, str], jobs: int) -> Result:
    """One recipe's result from the folders of its seeds; `why` has the reasons of failed seeds.

    Of a recipe without a claim the values are those of its main metric: a return, else the first that its evaluation gives.
    """
    from ray_jobs.results.statistics import summarize, verdict

    finished = {s.number: s.run for s in plan if s.run.result is not None}
    metric = claim.metric if claim else main_metric([(run.result or {})["metrics"] for run in finished.values()])
    failures = {str(k): v for k, v in why.items()} | (unusable(finished, metric) if metric else {})
    good = {n: run for n, run in finished.items() if str(n) not in failures}
    reports = [run.result or {} for run in good.values()]
    values = [r["metrics"][metric] for r in reports] if metric else []
    summary = summarize(values) if values else None
    found = verdict(claim, summary, complete=not failures) if claim else "no claim"
    return Result(
        plan[0].recipe, claim, retrace(plan, here=False), list(good), values, failures,
        **(asdict(summary) if summary else {}), verdict=found, holds=found in ("holds", "clearly holds"),
        settings=dict(plan[0].settings), seconds=[r["seconds"] for r in reports], jobs=min(jobs, len(plan)),
        metrics=side_by_side([r["metrics"] for r in reports]), splits=reports[0].get("splits", {}) if reports else {}, date=now(),
        **provenance(list(good.values())), curves=curves(list(good.values()), metric), main="" if claim else metric,
    )  # fmt: skip


def main_metric(reports: Sequence[Mapping[str, float]]) -> str:
    """The metric that a reader looks at first: episode_return where all have it, else the first that is no loss; '' without any."""
    shared = [name for name in (reports[0] if reports else {}) if all(name in report for report in reports)]
    named = [n for n in shared if not n.startswith(("loss", "grad_norm"))]
    return next((n for n in ("episode_return", *named, *shared) if n in shared), "")


def unusable(finished: Mapping[int, Run], metric: str) -> dict[str, str]:
    """Finished seeds whose result has no finite value of the metric, and why."""
    reasons = {}
    for number, run in finished.items():
        found = (run.result or {})["metrics"]
        if metric not in found:
            reasons[str(number)] = f"its result holds no {metric}, only {', '.join(found) or 'nothing'}"
        elif not math.isfinite(found[metric]):
            reasons[str(number)] = f"{metric} is {found[metric]}"
    return reasons


def side_by_side(reports: Sequence[Mapping[str, float]]) -> dict[str, list[float | None]]:
    """Every metric over the seeds; None where a seed has none or it is not finite."""
    names = dict.fromkeys(name for report in reports for name in report)
    return {k: [r[k] if math.isfinite(r.get(k, math.nan)) else None for r in reports] for k in names}


def provenance(runs: Sequence[Run]) -> dict[str, Any]:
    """Machine, versions and commits that the runs were made with."""
    if not runs:
        return {}
    records, reports = [r.read("run.json") or {} for r in runs], [r.result or {} for r in runs]
    machines = dict.fromkeys(machine(r["device"], r["cores"], c["host"]) for c, r in zip(records, reports, strict=True))
    commits = dict.fromkeys(c["git"] for c in records if c.get("git"))
    return {"machine": "; ".join(machines), "versions": records[-1]["versions"], "git": list(commits)}


def machine(device: str, cores: int, host: str) -> str:
    """'AMD EPYC 9B14, 2 cores', or the GPU's name in its place; another host's CPU is not known by name here."""
    name = processor() if host == socket.gethostname() else "CPU"
    return f"{name if device == 'cpu' else device}, {cores} cores"


def processor() -> str:
    """The name of this machine's CPU."""
    with contextlib.suppress(OSError, StopIteration):
        line = next(x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name"))
        return line.split(":", 1)[1].strip()
    return platform.machine()


def curves(runs: Sequence[Run], metric: str) -> dict[str, dict[str, list[Any]]]:
    """The learning curves of the logged metric that is nearest to the claim's, thinned for a plot."""
    logged = [list(run.metrics()) for run in runs]
    key = store.main_metric(dict.fromkeys(k for run in logged for m in run for k in m), metric)
    return {key: store.thin(logged, key)} if key else {}


def results_folder(result: Result, given: str | None, out: str) -> Path:
    """The folder for a result: the one that was given; else the project's record, for the recipe's own settings and at least the
    claim's seeds; else a folder next to the runs. Seeds that do not start at 0 are kept in its folder `fresh`."""
    where = Path(given) if given else _usual_folder(result, out)
    return where / store.FRESH if store.is_fresh(result) else where


def _usual_folder(result: Result, out: str) -> Path:
    """The folder for a result where none was given."""
    enough = result.claim is not None and len(result.values) + len(result.failures) >= result.claim.seeds
    own = store.folder() if enough and not result.settings else None
    return own or (Path("runs/results") if "://" in out else Path(out) / "results")


def keep(result: Result, plan: Sequence[Seed], where: Path) -> Path:
    """Write the result, and next to it the pictures of its first seed: samples as <recipe>.png, others as <recipe>-<what>.png.

    Fresh seeds only check a claim: they have no pictures.
    """
    path = store.save(result, where)
    if store.is_fresh(result):
        return path
    pictures = next(filter(None, (seed.run.pictures() for seed in plan if seed.number in result.seeds)), [])
    for old in (
        path.with_suffix(".png"),
        *path.parent.glob(f"{path.stem}-*.png"),
        *path.parent.glob(f"{path.stem}-*.gif"),
    ):
        old.unlink(missing_ok=True)
    for new in pictures:
        what = new.stem.removeprefix("samples").removeprefix("-")
        if found := picture(new):
            write(path.with_name(f"{path.stem}{'-' * bool(what)}{what}.{found.kind}"), found.data)
    return path
