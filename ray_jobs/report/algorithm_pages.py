"""docs/algorithms/: a page for each algorithm, from its docstring, its fields and what was measured of its recipes.

python -m ray_jobs.report.algorithm_pages     writes the pages and their curves; a test fails where a page is out of date
"""

from __future__ import annotations

from pathlib import Path

from ray_jobs.recipe.loading import family_source, recipe
from ray_jobs.recipe.plan import target
from ray_jobs.recipe.settings import Setting, declared_fields
from ray_jobs.report.markdown import plain
from ray_jobs.report.systems import systems
from ray_jobs.results import store
from ray_jobs.results.store import Result
from ray_jobs.run import files

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "algorithms"


def algorithms() -> list[dict[str, str]]:
    """The systems that are algorithms of reinforcement learning, see `systems.systems`."""
    return [s for s in systems() if s["file"].startswith("ray_jobs/rl/")]


def pages() -> dict[str, str]:
    """Every page by its file's name, and an index."""
    made = {Path(s["file"]).stem + ".md": page(s) for s in by_file(algorithms())}
    rows = [f"| [{s['system']}]({Path(s['file']).stem}.md) | {s['what']} | {s['recipes']} |" for s in algorithms()]
    index = "# Algorithms\n\nMade by `python -m ray_jobs.report.algorithm_pages`.\n\n"
    index += "| system | what it is | recipes |\n|---|---|---|\n"
    return made | {"README.md": index + "\n".join(rows) + "\n"}


def by_file(found: list[dict[str, str]]) -> list[dict[str, str]]:
    """One entry for each file: a system with the recipes of all systems that are options of the same algorithm."""
    merged: dict[str, dict[str, str]] = {}
    for s in found:
        first = merged.setdefault(s["file"], {**s, "recipes": ""})
        first["recipes"] += (", " if first["recipes"] else "") + s["recipes"]
    return list(merged.values())


def page(system: dict[str, str]) -> str:
    """One algorithm: its source, its settings, its recipes and their curves."""
    lines = [f"# {system['system']}", "", f"{system['what']}.", "", f"- Source: {system['Source']}"]
    if "Differs" in system:
        lines.append(f"- Differs: {system['Differs']}")
    lines.append(f"- Code: [{system['file']}](../../{system['file']})")
    lines += ["", "## Settings", "", "| setting | type | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{s.name}` | {s.typename} | {s.default} | {_in_cell(s.help)} |" for s in settings(system)]
    lines += ["", "## Recipes"]
    for name in recipes(system):
        lines += ["", *section(name)]
    return "\n".join(lines) + "\n"


def recipes(system: dict[str, str]) -> list[str]:
    """The names of a system's recipes."""
    return system["recipes"].replace("`", "").split(", ")


def settings(system: dict[str, str]) -> tuple[Setting, ...]:
    """The fields of the algorithm's dataclass, read without importing it."""
    plan = recipe(recipes(system)[0]).plan
    _, file, name = family_source(plan, target(plan))
    return declared_fields(file, name)


def section(name: str) -> list[str]:
    """One recipe: its title, its claim and what was measured."""
    found = recipe(name)
    lines = [f"### {name}", "", plain(found.title), "", f"    reprise train {name}", ""]
    lines.append(
        f"- Claim: {plain(str(found.claim))}, over {found.claim.seeds} seeds" if found.claim else "- No claim."
    )
    measured = result(name)
    if measured:
        lines.append(f"- Measured: {store.describe(measured)}, {store.count(measured)}: {measured.verdict}")
        if measured.curves:
            lines += ["", f"![Learning curves of {plain(name)}]({name}.png)"]
            lines += ["", caption] if (caption := store.caption(measured)) else []
    return lines


def result(name: str) -> Result | None:
    """The project's own record of a recipe."""
    path = ROOT / "results" / f"{name}.json"
    return store.read(path) if path.is_file() else None


def write(where: Path = PAGES) -> None:
    """Write the pages, and the learning curves that they show."""
    from ray_jobs.results import plots

    for name, text in pages().items():
        files.write(where / name, text.encode())
    for name in (n for s in algorithms() for n in recipes(s)):
        measured = result(name)
        if measured and measured.curves:
            plots.curves(measured, where / f"{name}.png")


def _in_cell(text: str) -> str:
    """A docstring in a table: its `code` stays code."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    write()
