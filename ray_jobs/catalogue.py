"""`reprise list` and `reprise show`: what there is, what it must reach, and what was measured."""

from __future__ import annotations

from typing import Any

from ray_jobs import results
from ray_jobs.recipe import Fit, kind, module, names
from ray_jobs.settings import build, known


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
        "measured": results.measured(name),
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

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for key in found[0]:
        table.add_column(key, overflow="fold", no_wrap=key == "recipe", style="cyan" if key == "recipe" else None)
    for line in found:
        table.add_row(*line.values())
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
