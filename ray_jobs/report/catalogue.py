"""`reprise list` and `reprise show`: what there is, what it must reach, and what was measured."""

from __future__ import annotations

from typing import Any

from ray_jobs.recipe.loading import kind, module, names
from ray_jobs.recipe.plan import Fit
from ray_jobs.recipe.settings import build, known
from ray_jobs.results import store


def rows() -> list[dict[str, str]]:
    """One row for each recipe: name, system, data, paper, headline, claim, measured."""
    return [row(name) for name in names()]


def row(name: str) -> dict[str, str]:
    """What the recipe's module says of itself, and its measured result."""
    found = module(name)
    headline, claim = found.headline, found.claim
    value = "" if headline.value is None else f"{headline.metric} {headline.value:g}"
    return {
        "recipe": name,
        "system": found.system,
        "data": found.data,
        "paper": headline.paper + (f", arXiv:{headline.arxiv}" if headline.arxiv else ""),
        "headline": value,
        "claim": str(claim) if claim else "none",
        "measured": store.measured(name),
    }


def list_recipes(*, json: bool = False) -> None:
    """Show every recipe with its system, data, paper, the paper's headline, our claim and what was measured.

    Args:
        json: print it for programs.
    """
    found = rows()
    if json:
        import json as to

        print(to.dumps(found, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, style="cyan")
    table.add_column()
    for line in found:
        headline = f", headline {line['headline']}" if line["headline"] else ""
        table.add_row(line["recipe"], f"[bold]{line['system']}[/] on {line['data']}. {line['paper']}{headline}")
        measured = f"measured {line['measured']}" if line["measured"] else "not measured yet"
        table.add_row(
            "", f"claim {line['claim']}; {measured}" if line["claim"] != "none" else "[dim]no claim on a laptop[/]"
        )
    Console(highlight=False).print(table)


def show(recipe: str) -> None:
    """Show what a recipe is, and its settings with types, defaults and meaning.

    Args:
        recipe: its name, as `reprise list` shows it.
    """
    from rich.console import Console
    from rich.table import Table

    settings = known(recipe)
    console = Console(highlight=False)
    title, _, text = (module(recipe).__doc__ or "").strip().partition("\n")
    console.print(f"[bold]{recipe}[/]  {title}")
    if text.strip():
        console.print(text.strip())
    for key, value in row(recipe).items():
        if key != "recipe" and value:
            console.print(f"  [dim]{key:9}[/] {value}")
    made: Any = build(recipe, {})
    if kind(recipe) is Fit:
        console.print(f"  [dim]size     [/] {sum(p.numel() for p in made.model.parameters()):,} parameters")
    for heading, shared in ((f"settings of {recipe}", False), ("settings of every such recipe", True)):
        table = Table(title=f"\n{heading}", title_justify="left", title_style="bold", box=None, show_header=False)
        for s in (s for s in settings.values() if s.shared is shared):
            default = getattr(made, s.name) if s.shared else s.default
            table.add_row(f"  --{s.name}", f"[cyan]{s.typename}[/]", f"{default}", s.help)
        console.print(table)


# ---- the table of systems in the README


def imported(recipe: str) -> set[str]:
    """The modules that a recipe's file imports, at its top or when it is built."""
    import ast
    from pathlib import Path

    tree = ast.parse(Path(str(module(recipe).__file__)).read_text())
    found = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
    return {str(n.module) for n in found} | {f"{n.module}.{a.name}" for n in found for a in n.names}


def label(systems: list[str]) -> str:
    """What the systems have in common: the one that all others are kinds of, as VAE is of 'VAE with flow prior', else all."""
    base = min(systems, key=len)
    return base if all(name.startswith(base) for name in systems) else ", ".join(dict.fromkeys(systems))


def systems() -> list[dict[str, str]]:
    """Every system's module, read without importing it: its title, source, what differs, and the recipes that use it."""
    import ast
    import re
    from pathlib import Path

    root, found = Path(__file__).parents[2], []

    def path(file: Path) -> str:
        return ".".join(file.relative_to(root).with_suffix("").parts)

    for file in sorted(f for p in ("lightning_modules", "ray_jobs/rl/algorithms") for f in (root / p).rglob("*.py")):
        text = ast.get_docstring(ast.parse(file.read_text())) or ""
        recipes = [n for n in names() if path(file) in imported(n)]
        if "Source:" not in text or not recipes or file.parent.name == "nets":  # a network is no system
            continue
        parts = {
            k: " ".join(v.split()) for k, v in re.findall(r"^(Source|Differs):(.*?)(?=^\w+:|\Z)", text, re.S | re.M)
        }
        found.append(
            {"system": label([module(n).system for n in recipes]), "what": text.partition("\n")[0].rstrip(".")} | parts
        )
        found[-1] |= {"recipes": ", ".join(f"`{r}`" for r in recipes), "file": file.relative_to(root).as_posix()}
    return found


def markdown() -> str:
    """The systems as a Markdown table."""
    lines = ["| system | what it is | source | differs | recipes |", "|---|---|---|---|---|"]
    for s in systems():
        cells = [f"[{s['system']}]({s['file']})", s["what"], s["Source"], s.get("Differs", ""), s["recipes"]]
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(lines)


BEGIN, END = "<!-- systems: python -m ray_jobs.report.catalogue README.md -->", "<!-- end of systems -->"


def with_table(text: str) -> str:
    """A Markdown page with its table of systems made anew."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n{markdown()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    import sys
    from pathlib import Path

    page = Path(sys.argv[1])
    page.write_text(with_table(page.read_text()))
