"""docs/algorithms/: a page for each algorithm, from its docstring, its fields and what was measured of its recipes.

python -m ray_jobs.report.algorithm_pages           writes the pages and their curves anew; a test fails where a page is out of date
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from ray_jobs.recipe.loading import kind, module
from ray_jobs.recipe.plan import Play
from ray_jobs.report import catalogue
from ray_jobs.report.markdown import plain
from ray_jobs.results import store
from ray_jobs.results.store import Result

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "algorithms"


def pages() -> dict[str, str]:
    """Every page by its file's name, and an index."""
    systems = [s for s in catalogue.systems() if s["file"].startswith("ray_jobs/rl/")]
    made = {Path(s["file"]).stem + ".md": page(s) for s in systems}
    rows = [f"| [{s['system']}]({Path(s['file']).stem}.md) | {s['what']} | {s['recipes']} |" for s in systems]
    index = "# Algorithms\n\nMade by `python -m ray_jobs.report.algorithm_pages`.\n\n| system | what it is | recipes |\n|---|---|---|\n"
    return made | {"README.md": index + "\n".join(rows) + "\n"}


def page(system: dict[str, str]) -> str:
    """One algorithm: where it comes from, its settings, its recipes and their curves."""
    lines = [f"# {system['system']}", "", f"{system['what']}.", "", f"- Source: {system['Source']}"]
    if "Differs" in system:
        lines.append(f"- Differs: {system['Differs']}")
    lines.append(f"- Code: [{system['file']}](../../{system['file']})")
    lines += ["", "## Settings", "", "| setting | type | default | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {kind} | {default} | {in_cell(help)} |" for name, kind, default, help in fields(system["file"])
    ]
    lines += ["", "## Recipes"]
    for name in system["recipes"].replace("`", "").split(", "):
        lines += ["", *recipe(name)]
    return "\n".join(lines) + "\n"


def fields(file: str) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and docstring of each setting of the dataclass in a module, read without importing it."""
    tree = ast.parse((ROOT / file).read_text())
    classes = (n for n in tree.body if isinstance(n, ast.ClassDef))
    algorithm = next(c for c in classes if any(isinstance(n, ast.FunctionDef) and n.name == "update" for n in c.body))
    for line, text in zip(algorithm.body, algorithm.body[1:], strict=False):
        if isinstance(line, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            default = ast.unparse(line.value) if line.value else ""
            yield (
                ast.unparse(line.target),
                ast.unparse(line.annotation),
                default,
                " ".join(str(text.value.value).split()),
            )


def in_cell(text: str) -> str:
    """A docstring in a table: its `code` stays code."""
    return text.replace("|", "\\|")


def recipe(name: str) -> list[str]:
    """What a recipe says of itself, and what was measured of it."""
    found = module(name)
    title = " ".join((found.__doc__ or "").strip().split("\n\n")[0].split())
    lines = [f"### {name}", "", plain(title), "", f"    reprise train {name}", ""]
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
    """The pages, and the learning curves that they show."""
    from ray_jobs.results import plots
    from ray_jobs.run import files

    for name, text in pages().items():
        files.write(where / name, text.encode())
    for name in (n for s in catalogue.systems() for n in s["recipes"].replace("`", "").split(", ")):
        measured = result(name)
        if measured and measured.curves and kind(name) is Play:
            plots.curves(measured, where / f"{name}.png")


if __name__ == "__main__":
    write()
