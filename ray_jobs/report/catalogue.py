"""`reprise list` and `reprise show`: the recipes, their claims, and what was measured."""

from __future__ import annotations

import json as to
from collections.abc import Mapping
from typing import Any

from ray_jobs.errors import UsageError, unknown
from ray_jobs.recipe import loading
from ray_jobs.recipe.loading import declared, families, names
from ray_jobs.recipe.settings import FamilyName, RecipeName, check, known
from ray_jobs.results import store
from ray_jobs.terminal import console


def row(name: str) -> dict[str, str]:
    """One recipe: name, system, data, paper, headline, claim, measured."""
    found = loading.recipe(name)
    headline, claim = found.headline, found.claim
    return {
        "recipe": name,
        "family": found.family,
        "system": found.system,
        "data": found.data,
        "paper": headline.paper + (f", arXiv:{headline.arxiv}" if headline.arxiv else ""),
        "headline": "" if headline.value is None else f"{headline.metric} {headline.value:g}",
        "claim": str(claim) if claim else "none",
        "measured": store.measured(name),
    }


def list_recipes(family: FamilyName = "", *, claims: bool = False, json: bool = False) -> None:
    """Show the families of recipes, or the recipes of one family.

    Args:
        family: one of the families, such as flows; without it, all families with their systems.
        claims: show each recipe's claim and what was measured.
        json: print everything about each recipe, for programs.

    Raises:
        UsageError: there is no such family.
    """
    if family and family not in families():
        raise UsageError(unknown("family", family, list(families())))
    chosen = [n for n in names() if family in ("", loading.recipe(n).family)]
    if json:
        print(to.dumps([row(n) for n in chosen], indent=1))
    elif family or claims:
        _show_recipes([row(n) for n in chosen], claims)
    else:
        _show_families()


def _show_families() -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("family", "recipes", "systems"):
        table.add_column(title, justify="right" if title == "recipes" else "left", no_wrap=title != "systems")
    for name, recipes in families().items():
        found = [declared()[r] for r in recipes]
        count = sum(1 + len(r.variants) for r in found)
        table.add_row(f"[cyan]{name}[/]", str(count), ", ".join(dict.fromkeys(r.system for r in found)))
    out = console()
    out.print(table)
    out.print(
        "\n[dim]'reprise list FAMILY' shows its recipes, 'reprise show RECIPE' one, '--claims' what each must reach.\n"
        "A system is a recipe by its own name, too: 'reprise train ppo --env ENV', 'reprise train maf --data DATA'.[/]"
    )


def _show_recipes(rows: list[dict[str, str]], claims: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("recipe", "system", *(("claim", "measured") if claims else ("on", "paper"))):
        table.add_column(title, no_wrap=title == "recipe")
    for r in rows:
        shown = (r["claim"], r["measured"] or "-") if claims else (r["data"], r["paper"])
        table.add_row(f"[cyan]{r['recipe']}[/]", escape(r["system"]), *map(escape, shown))
    console().print(table)


def show(
    recipe: RecipeName, *, cost: bool = False, gpu_memory: float = 80.0, settings: dict[str, Any] | None = None
) -> None:
    """Show what a recipe is, and its settings.

    Each setting has its type, default and meaning.

    Args:
        recipe: its name, as `reprise list FAMILY` shows it.
        cost: show instead what its training takes: parameters, memory by part, operations of a step, and how many GPUs fit.
        gpu_memory: of each GPU, in GiB, for --cost.
        settings: of the training, for --cost, as '{"batch": 64}'.

    Raises:
        UsageError: there is no such recipe, or --cost is asked of one that trains no model.
    """
    from rich.markup import escape

    if cost:
        show_cost(recipe, gpu_memory, settings or {})
        return
    from rich.table import Table

    found, has = loading.recipe(recipe), known(recipe)
    out = console()
    out.print(f"[bold]{escape(recipe)}[/]  {escape(found.title)}")
    if found.text:
        out.print(escape(found.text))
    for key, value in row(recipe).items():
        if key != "recipe" and value:
            out.print(f"  [dim]{key:9}[/] {escape(value)}")
    for other in found.variants:
        out.print(f"  [dim]variant  [/] {escape(f'{recipe}@{other}: {found.variants[other].data}')}")
    headings = (f"settings of {recipe}", False), (f"options of every {loading.kind(found).__name__}", True)
    for heading, shared in headings:
        table = Table(
            title=f"\n{escape(heading)}", title_justify="left", title_style="bold", box=None, show_header=False
        )
        for s in (s for s in has.values() if s.shared is shared):
            table.add_row(
                f"  --{s.name}", f"[cyan]{escape(s.typename)}[/]", escape(_default(s.default)), escape(s.help)
            )
        out.print(table)


def show_cost(recipe: str, gpu_memory: float, settings: Mapping[str, Any]) -> None:
    """Print what a training of this recipe takes; torch is imported.

    Raises:
        UsageError: it trains no generative model, a setting is wrong, or the memory is no positive number.
    """
    if not 0 < gpu_memory < float("inf"):
        raise UsageError(f"--gpu_memory is that of each GPU in GiB, such as 80, not {gpu_memory:g}.")
    from rich.markup import escape
    from rich.table import Table

    from ray_jobs.train.costs import words
    from ray_jobs.train.costs.counting import cost

    table = Table(
        title=f"cost of {escape(recipe)}", title_justify="left", title_style="bold", box=None, show_header=False
    )
    for what, text in words.lines(cost(recipe, check(recipe, settings)), gpu_memory):
        table.add_row(f"  [dim]{escape(what)}[/]", escape(text))
    out = console()
    out.print(table)
    out.print(f"[dim]{words.COUNTED}.[/]")


def _default(value: Any) -> str:
    return "" if value in (None, "") else str(value)
