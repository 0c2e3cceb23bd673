"""docs/systems.md: every published method that is here, by family, from the docstrings of its module.

python -m ray_jobs.report.systems      writes the page; a test fails where it is out of date
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from ray_jobs.recipe.loading import declared, family_source, names, recipe
from ray_jobs.recipe.plan import target
from ray_jobs.run.files import write

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "systems.md"
HEAD = """# Systems

Every published method that Reprise trains. Made by `python -m ray_jobs.report.systems`.
"""


def systems() -> list[dict[str, str]]:
    """Every system once: name, family, title, source, differences, file and recipes; its modules are read, not imported."""
    files = _files()
    found = []
    for name in dict.fromkeys(r.system for r in declared().values()):
        recipes = [n for n in names() if recipe(n).system == name]
        file = _file_of_data(recipes[0]) or files.get(name)
        if file is None:
            continue
        text = ast.get_docstring(ast.parse(file.read_text())) or ""
        parts = re.findall(r"^(Source|Differs):(.*?)(?=^\w+:|\Z)", text, re.S | re.M)
        found.append(
            {
                "system": name,
                "family": recipe(recipes[0]).family,
                "what": text.partition("\n")[0].rstrip("."),
                **{k: " ".join(v.split()) for k, v in parts},
                "recipes": ", ".join(f"`{r}`" for r in recipes),
                "file": file.relative_to(ROOT).as_posix(),
            }
        )
    return found


def _file_of_data(name: str) -> Path | None:
    """The file of the class that a recipe names; None where a function builds the model."""
    plan = recipe(name).plan
    return None if callable(plan) else family_source(plan, target(plan))[1]


def _files() -> dict[str, Path]:
    """The module of each system of the models, by the line `System: NAME` of its docstring."""
    found = {}
    for file in sorted((ROOT / "lightning_modules").rglob("*.py")):
        text = ast.get_docstring(ast.parse(file.read_text())) or ""
        for name in re.findall(r"^System: (.+)$", text, re.M):
            found[name.strip().rstrip(".")] = file
    return found


def markdown() -> str:
    """The page: a table for each family."""
    lines, rows = [HEAD.rstrip()], systems()
    for family in dict.fromkeys(s["family"] for s in rows):
        lines += ["", f"## {family.replace('_', ' ')}", "", "| system | what it is | source | differs | recipes |"]
        lines.append("|---|---|---|---|---|")
        for s in (s for s in rows if s["family"] == family):
            cells = [f"[{s['system']}](../{s['file']})", s["what"], s["Source"], s.get("Differs", ""), s["recipes"]]
            lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(lines) + "\n"


BEGIN, END = "<!-- systems: python -m ray_jobs.report.systems -->", "<!-- end of systems -->"


def with_table(text: str) -> str:
    """The README with its short table of systems: one row each, by family."""
    lines = ["| system | family | recipes |", "|---|---|---|"]
    lines += [f"| [{s['system']}]({s['file']}) | {s['family'].replace('_', ' ')} | {_base(s)} |" for s in systems()]
    head, _, rest = text.partition(BEGIN)
    return "\n".join([f"{head}{BEGIN}", *lines, f"{END}{rest.partition(END)[2]}"])


def _base(system: dict[str, str]) -> str:
    """The recipes of a system without their variants."""
    return ", ".join(r for r in system["recipes"].split(", ") if "@" not in r)


if __name__ == "__main__":
    write(PAGE, markdown().encode())
    readme = ROOT / "README.md"
    write(readme, with_table(readme.read_text()).encode())
