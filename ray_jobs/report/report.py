"""`reprise report`: one page of measured results against their claims and the papers' own values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cluster.hiding import hide
from ray_jobs.errors import UsageError
from ray_jobs.recipe.declare import Claim
from ray_jobs.recipe.loading import kind, recipe
from ray_jobs.recipe.trusted import own_recipe
from ray_jobs.report.cards import Card
from ray_jobs.reproduce import aggregate
from ray_jobs.reproduce.seeds import Seed
from ray_jobs.results import store as results
from ray_jobs.results.store import Result
from ray_jobs.run.files import last_lines, write
from ray_jobs.run.folder import Run


def report(
    runs: Sequence[str] = (), *, out: str = "report.html", results: str | None = None, markdown: str | None = None
) -> Path:
    """Write one HTML page of all results against their claims.

    The page is self-contained, and shows the recipes that were measured, or the runs that are given.

    Args:
        runs: run folders, each shown as one run.
        out: the page.
        results: folder of measured results; by default the project's results/, and none where runs are given.
        markdown: also write Markdown pages, one for each family, into this folder.

    Returns:
        the page's path.

    Raises:
        UsageError: a folder holds no run, or there is nothing to show.
    """
    from ray_jobs.report.html import html

    cards = [*measured(results, default=not runs), *(of_run(location) for location in runs)]
    if not cards:
        raise UsageError("There is nothing to report yet: 'reprise reproduce RECIPE' measures, or name a run folder.")
    write(Path(out), html(cards).encode())
    if markdown:
        from ray_jobs.report.markdown import pages

        for name, text in pages(cards, Path(markdown).resolve()).items():
            write(Path(markdown) / name, text.encode())
    return Path(out)


# ---- cards


def measured(given: str | None, *, default: bool) -> list[Card]:
    """Every result in the folder given, or in the project's own if `default`; ordered by system."""
    if given and not Path(given).is_dir():
        raise UsageError(
            f"There is no folder of results at {given}: 'reprise reproduce RECIPE --results {given}' makes it."
        )
    where = results.folder(given) if given or default else None
    if where is None:
        return []
    fresh = results.load(where / results.FRESH)
    found = [
        replace(of_result(r, where / f"{name}.png"), fresh=fresh.get(name)) for name, r in results.load(where).items()
    ]
    return sorted(found, key=lambda c: (c.system, c.result.recipe))


def of_result(result: Result, picture: Path) -> Card:
    """The card of a reproduced recipe."""
    card, claim = about(result)
    notes = []
    if result.settings:
        notes.append("With settings that differ from the recipe's own.")
    if result.claim and len(result.values) + len(result.failures) < result.claim.seeds:
        notes.append(f"The claim is about {result.claim.seeds} seeds; fewer were run.")
    if claim != result.claim:
        notes.append(
            f"Measured against an earlier claim; the recipe's is now {claim}."
            if claim
            else "The recipe makes no claim now."
        )
    more = {
        path.stem.removeprefix(f"{picture.stem}-"): path
        for path in sorted(p for kind in ("png", "gif") for p in picture.parent.glob(f"{picture.stem}-*.{kind}"))
    }
    return replace(card, picture=picture if picture.is_file() else None, more=more, note=" ".join(notes))


def of_run(location: str) -> Card:
    """The card of one run, finished or not.

    Raises:
        UsageError: there is no run at `location`.
    """
    run = Run.open(location)
    spec = run.spec
    own_recipe(spec.recipe, location)
    try:
        claim = recipe(spec.recipe).claim
    except UsageError:  # the recipe has gone since
        claim = None
    seed = Seed(spec.recipe, spec.seed, location, spec.settings)
    result = aggregate.collect(claim, [seed], {} if run.result else {spec.seed: unfinished(run)}, 1)
    said, finished = run.read("run.json") or {}, (run.result or {}).get("finished")
    result = replace(
        result,
        command=hide(said["command"]),
        curves=aggregate.curves([run], result.metric),
        date=finished or said["started"],
    )
    pictures = {path.stem.removeprefix("samples-"): path for path in run.pictures()}
    picture = pictures.pop("samples", None)
    note = "One run: it shows that the command works, not that the claim holds; 'reprise reproduce' does that."
    if spec.settings:
        note += " Its settings differ from the recipe's own."
    return replace(about(result)[0], picture=picture, more=pictures, note=note, single=True)


def unfinished(run: Run) -> str:
    """The state and step of a run without a result; for a failed run, also the end of its log."""
    status = run.progress
    state = status.get("state", "not started")
    at = (
        f"{state}, at step {status['step']:,}" + (f" of {status['steps']:,}" if status.get("steps") else "")
        if status
        else state
    )
    return "\n".join([at, *(last_lines(run.path / "log.txt") if state == "failed" else [])])


def about(result: Result) -> tuple[Card, Claim | None]:
    """The card with the recipe's title, system, data and headline, and the recipe's claim as it is now."""
    try:
        found = recipe(result.recipe)
    except UsageError:  # a recipe that is gone keeps its measured numbers
        return Card(result), result.claim
    title = found.title.rstrip(".")
    about_it = {"system": found.system, "data": found.data, "headline": found.headline, "family": found.family}
    about_it["measured"] = result.splits.get(result.metric) or kind(found).measured
    return Card(result, title, **about_it), found.claim
