"""docs/results/: the measured results in Markdown, a page for each family. A page changes only when a measurement does."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from ray_jobs.report.cards import Card, on_fresh_seeds, passed, published, tally
from ray_jobs.results.store import count, describe, median, short
from ray_jobs.run.files import picture

INDEX = """# Results

{tally} Recorded by `reprise reproduce` and written by `reprise report --markdown docs/results`; never edited by hand.

Each recipe says what it was measured on. Many recipes' defaults were chosen before searches had a validation part, when only
the final measurement could be looked at, so a number on held-out examples may flatter them a little. The digits of scikit-learn
are split by rows: the same 13 writers are in both parts, and who wrote which digit is not known, so these numbers do not tell
how a model does on a new writer's.

A claim is about the mean over its seeds, and is set so that a new seed keeps it by itself with a probability of at least 95%: beyond
mean ± t s √(1 + 1/n) of n = 10 seeds that nothing was tuned on (`reprise reproduce RECIPE --seeds 10 --first_seed 100`), the one-sided
95% prediction bound of normal values, and so that all ten keep it. The column of new seeds has how many of those ten keep it;
`python -m benchmarks.claims` measures them.

| Family | Claims |
|---|---|
"""
HEAD = """# Results: {family}

{tally}

| Recipe | Paper | Claim | Measured: mean [95% interval] | IQM | Seeds | New seeds | Time | Verdict |
|---|---|---|---|---|---|---|---|---|
"""


def pages(cards: Sequence[Card], folder: Path) -> dict[str, str]:
    """The text of each page by its file's name: README.md, and one for each family; pictures are linked relative to `folder`."""
    families: dict[str, list[Card]] = {}
    for card in cards:
        families.setdefault(card.family or "own", []).append(card)
    rows = [f"| [{f.replace('_', ' ')}]({f}.md) | {tally(of)} |\n" for f, of in sorted(families.items())]
    index = INDEX.format(tally=tally(cards)) + "".join(rows)
    return {"README.md": index} | {f"{f}.md": page(f, of, folder) for f, of in families.items()}


def page(family: str, cards: Sequence[Card], folder: Path) -> str:
    """The page of one family: a table, then how each recipe was run."""
    rows = "".join(f"| {' | '.join(cells(card))} |\n" for card in cards)
    head = HEAD.format(family=family.replace("_", " "), tally=tally(cards))
    return head + rows + "".join(section(card, folder) for card in cards)


def cells(card: Card) -> list[str]:
    """The cells of a card's row in the table."""
    r, head = card.result, card.headline
    paper = (
        f"[{plain(published(head))}](https://arxiv.org/abs/{head.arxiv})"
        if head and head.arxiv
        else plain(published(head))
    )
    system = plain(f"{card.system} on {card.data}" if card.data else card.system)
    iqm = short(r.iqm) if r.iqm is not None else ""
    claim = plain(str(r.claim or "none"))
    return [
        f"`{r.recipe}`<br>{system}",
        paper,
        claim,
        describe(r),
        iqm,
        count(r),
        passed(card.fresh, r.claim),
        median(r),
        plain(card.verdict),
    ]


def section(card: Card, folder: Path) -> str:
    """The section of one recipe: command, machine, and the value of each seed."""
    r = card.result
    lines = [f"\n## {plain(card.title or r.recipe)}\n", f"    {' '.join(r.command.splitlines())}\n"]
    facts = {
        "Machine": r.machine + (f", {r.jobs} seeds at a time" if r.jobs > 1 else ""),
        "Measured on": card.measured,
        "Measured": r.date,
        "Commit": ", ".join(r.git),
        "Versions": ", ".join(f"{k} {v}" for k, v in r.versions.items()),
        r.metric: ", ".join(f"{short(v)} (seed {s})" for s, v in zip(r.seeds, r.values, strict=True)),
        "New seeds": on_fresh_seeds(card.fresh, r.claim),
        "Note": card.note,
    }
    lines += [f"- {plain(k)}: {plain(v)}" for k, v in facts.items() if v]
    lines += [f"- Seed {seed} gave no value: {plain(' '.join(why.split()))}" for seed, why in r.failures.items()]
    shown = [("Samples", path) for path in [card.picture] if path] + [("More", path) for path in card.more.values()]
    for what, path in ((what, path) for what, path in shown if picture(path)):
        link = quote(os.path.relpath(path.resolve(), folder).replace(os.sep, "/"), safe="/@+")
        lines += ["", f"![{what} of {plain(r.recipe)}]({link})"]
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text).replace("\n", " ")
