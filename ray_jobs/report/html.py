"""The report as one HTML page: no script, nothing loaded from anywhere, light and dark, on paper as on a screen.

The markup is in `templates/`. Jinja escapes every text; only the SVG of `curve_svg` is inserted as it is.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ray_jobs.report.cards import Card, on_fresh_seeds, published, tally
from ray_jobs.results.plots import curve_svg
from ray_jobs.results.store import Result, caption, count, describe, median, short
from ray_jobs.run.files import picture
from ray_jobs.run.provenance import now

SIGNS = {"clearly holds": "✓", "holds": "✓", "reached": "✓", "clearly fails": "✗", "fails": "✗", "missed": "✗"}
COLOURS = {"✓": "good", "✗": "bad"}


def html(cards: Sequence[Card]) -> str:
    """The whole page."""
    what = "runs" if all(card.single for card in cards) else "results"
    title = f"Reprise: {what} against their claims"
    shown = [_fields(card) for card in cards]
    return (
        _templates().get_template("page.html.j2").render(title=title, tally=tally(cards), date=now()[:10], cards=shown)
    )


def _templates() -> Environment:
    """The templates; every text is escaped, and a name that a template misspells is an error."""
    found = Environment(
        loader=PackageLoader("ray_jobs.report"),
        autoescape=True,
        trim_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    found.filters["no_break"] = lambda text: text.replace("≥ ", "≥\N{NO-BREAK SPACE}").replace(
        "≤ ", "≤\N{NO-BREAK SPACE}"
    )
    return found


def _fields(card: Card) -> dict[str, Any]:
    """What the templates show of a card: plain texts and numbers, except for the curves."""
    r, head = card.result, card.headline
    sign = SIGNS.get(card.verdict, "○")
    return {
        "title": card.title or r.recipe,
        "name": _name(card),
        "anchor": _name(card).replace(", ", "-").replace(" ", "-"),
        "system": f"{card.system} on {card.data}" if card.system and card.data else card.system or card.data,
        "verdict": card.verdict,
        "sign": sign,
        "colour": COLOURS.get(sign, ""),
        "claim": str(r.claim or "none"),
        "measured": describe(r),
        "strip": _strip(r),
        "iqm": short(r.iqm) if r.iqm is not None else "",
        "seeds": "1 run" if card.single else count(r),
        "time": median(r),
        "jobs": r.jobs,
        "published": published(head),
        "arxiv": head.arxiv if head else "",
        "machine": r.machine,
        "curves": _curves(r),
        "caption": caption(r),
        "images": _images(card),
        "facts": _facts(card),
        "failures": r.failures,
    }


def _name(card: Card) -> str:
    """The recipe, and of a single run the seed."""
    r = card.result
    return f"{r.recipe}, seed {', '.join([*map(str, r.seeds), *r.failures])}" if card.single else r.recipe


def _strip(r: Result) -> dict[str, Any] | None:
    """Where the seeds, interval, mean and claim lie on a line from 6 to 154; None without a claim or a value."""
    if r.claim is None or not r.values:
        return None
    bound = r.claim.at_least if r.claim.at_least is not None else r.claim.at_most
    assert bound is not None
    ends = [*r.values, bound, *(r.interval or ())]
    low, width = min(ends), (max(ends) - min(ends)) or 1.0

    def x(value: float) -> str:
        return f"{6 + 148 * (value - low) / width:.1f}"

    return {
        "label": f"{len(r.values)} seeds from {short(min(r.values))} to {short(max(r.values))}, claim {short(bound)}",
        "interval": r.interval and [x(end) for end in r.interval],
        "bound": x(bound),
        "seeds": [x(value) for value in r.values],
        "mean": None if r.mean is None else x(r.mean),
    }


def _curves(r: Result) -> list[Markup]:
    """The learning curves as SVG elements, which matplotlib has escaped."""
    drawn = [(key, curve) for key, curve in r.curves.items() if curve["steps"]]
    return [Markup(curve_svg(c["steps"], c["values"], key=key, claim=r.claim)) for key, c in drawn]


def _images(card: Card) -> list[dict[str, str]]:
    """The samples and the other pictures, each with a title, a label and its file in base64."""
    recipe = card.result.recipe
    shown = [("Samples", f"Samples that {recipe} drew", card.picture)] if card.picture else []
    shown += [(what.capitalize(), f"{what.capitalize()} by {recipe}", path) for what, path in card.more.items()]
    found = ((title, label, picture(path)) for title, label, path in shown)
    return [
        {"title": title, "label": label, "kind": file.kind, "data": base64.b64encode(file.data).decode()}
        for title, label, file in found
        if file
    ]


def _facts(card: Card) -> dict[str, str]:
    """The list under the pictures; the page leaves out what is empty."""
    r = card.result
    return {
        "Claim": str(r.claim or "none"),
        "Seeds": ", ".join(f"{short(v)} (seed {s})" for s, v in zip(r.seeds, r.values, strict=False)),
        "Measured on": card.measured,
        "New seeds": on_fresh_seeds(card.fresh, r.claim),
        "Also measured": _other_metrics(r),
        "Settings": ", ".join(f"{k} = {json.dumps(v, default=str)}" for k, v in r.settings.items()),
        "Command": r.command,
        "Machine": r.machine,
        "Versions": ", ".join(f"{k} {v}" for k, v in r.versions.items()),
        "Commit": ", ".join(r.git),
        "Date": r.date.replace("T", " ").replace("+00:00", " UTC"),
        "Note": card.note,
    }


def _other_metrics(r: Result) -> str:
    """The means of the metrics that the claim is not about."""
    known = {k: [v for v in values if v is not None] for k, values in r.metrics.items() if k != r.metric}
    means = {k: short(sum(v) / len(v)) for k, v in known.items() if v}
    return ", ".join(f"{k} {mean} ({r.splits[k]})" if k in r.splits else f"{k} {mean}" for k, mean in means.items())
