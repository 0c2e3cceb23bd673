"""The report as one HTML page: no script, nothing loaded from anywhere, light and dark, on paper as on a screen."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from ray_jobs.report.cards import Card, published, tally
from ray_jobs.results.plots import curve_svg
from ray_jobs.results.store import Result, caption, count, describe, median, short
from ray_jobs.run.provenance import now

CSS = """
:root { color-scheme: light dark; --ink: #1f2430; --soft: #5b6270; --paper: #fbfbf9; --card: #fff; --line: #dfe2e8;
  --accent: #0072b2; --claim: #c04f00; --good: #0a6b4a; --goodbg: #e2f3ec; --bad: #a02412; --badbg: #fbe8e4; --flat: #eef0f4; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e6e8ed; --soft: #a2a9b6; --paper: #14161b; --card: #1b1e25;
  --line: #343944; --accent: #5cb3e8; --claim: #f0914a; --good: #6fd3ab; --goodbg: #12342a; --bad: #ff9b88; --badbg: #43201a;
  --flat: #262a33; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 90rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.015em; }
h2 { font-size: 1.2rem; margin: 0; letter-spacing: -.005em; }
h3 { font-size: .8rem; margin: 0 0 .4rem; color: var(--soft); font-weight: 600; }
p { margin: .3rem 0; } .soft, small, figcaption { color: var(--soft); }
small, figcaption { font-size: .82rem; font-weight: 400; display: block; }
.lead { font-size: 1.1rem; }
a { color: var(--accent); text-underline-offset: .15em; }
code, pre { font: .84em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
pre { background: var(--flat); padding: .7rem .9rem; border-radius: .5rem; white-space: pre-wrap; margin: .4rem 0; }
.wide { overflow-x: auto; margin: 1.6rem 0 2.2rem; background: var(--card); border: 1px solid var(--line); border-radius: .8rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .65rem .7rem; border-top: 1px solid var(--line); }
thead th { border-top: 0; font-size: .78rem; color: var(--soft); font-weight: 600; white-space: nowrap; }
tbody th { font-weight: 600; } .num, .num small { white-space: nowrap; } td:nth-last-child(-n + 2) { min-width: 9rem; }
.wide svg { display: block; width: 9.5rem; height: 1.7rem; margin-top: .2rem; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .8rem; padding: 1.3rem 1.5rem; margin: 0 0 1.4rem;
  break-inside: avoid; }
article > header { display: flex; gap: 1rem; justify-content: space-between; align-items: start; margin-bottom: 1rem; }
.pair { display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-start; }
figure { margin: 0; flex: 3 1 26rem; min-width: 0; max-width: 46rem; } figure.samples { flex: 1 1 14rem; max-width: 20rem; }
.pair dl { flex: 2 1 20rem; min-width: 0; }
figure svg { width: 100%; height: auto; display: block; font-family: inherit; }
figure img { width: 100%; height: auto; display: block; border-radius: .4rem; background: #fff; image-rendering: pixelated; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.2rem; margin: 1.1rem 0 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.verdict { display: inline-block; white-space: nowrap; padding: .1rem .65rem; border-radius: 1rem; font-size: .85rem; font-weight: 600;
  background: var(--flat); color: var(--soft); }
.good { background: var(--goodbg); color: var(--good); } .bad { background: var(--badbg); color: var(--bad); }
.why { border-left: 3px solid var(--bad); padding-left: .9rem; margin-top: 1rem; }
footer { color: var(--soft); font-size: .88rem; max-width: 48rem; margin-top: 2rem; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } body { padding: 1.2rem .8rem; } }
@media print { @page { size: A4 landscape; margin: 12mm; } body { background: #fff; padding: 0; font-size: 11px; max-width: none; }
  .wide, article { border-color: #bbb; } a { color: inherit; } figure.samples { max-width: 13rem; } }
"""
FOOT = """<p>Measured: the mean over seeds, with a 95% bootstrap interval (BCa) of that mean. IQM: the mean of the middle half.
A claim holds where the mean reaches it with no seed failing, and clearly where the whole interval does. With five seeds such an
interval is somewhat too narrow: it covers the truth about 84 times in 100. Curves: mean, 95% band over seeds, and each seed thin.
Time: the median seed, evaluation included.</p><p>Every number here was recorded by the run that measured it.</p>"""
SIGNS = {"clearly holds": "✓", "holds": "✓", "reached": "✓", "clearly fails": "✗", "fails": "✗", "missed": "✗"}


def html(cards: Sequence[Card]) -> str:
    """The whole page."""
    single = all(card.single for card in cards)
    title = "Reprise: runs against their claims" if single else "Reprise: results against their claims"
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title}</title><style>{CSS}</style></head>
<body><header><h1>{title}</h1><p class="lead">{escape(tally(cards))}</p><p class="soft">Written {now()[:10]}.</p></header>
<main>{summary(cards)}{"".join(article(card) for card in cards)}</main><footer>{FOOT}</footer></body></html>
"""


# ---- the summary


def summary(cards: Iterable[Card]) -> str:
    """One row for each card."""
    names = ("Recipe", "Verdict", "Claim", "Measured [95% interval]", "IQM", "Seeds", "Time", "Paper", "Machine")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "".join(row(card) for card in cards)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="wide" tabindex="0" role="region" aria-label="Summary">{table}</div>'


def row(card: Card) -> str:
    r = card.result
    link = f'<a href="#{escape(anchor(card))}">{escape(name(card))}</a><small>{escape(system(card))}</small>'
    at_once = f"<small>{r.jobs} at a time</small>" if r.jobs > 1 else ""
    cells = [
        badge(card),
        escape(str(r.claim or "none")).replace("≥ ", "≥&nbsp;").replace("≤ ", "≤&nbsp;"),
        f'<span class="num">{escape(describe(r))}</span>{strip(r)}',
        short(r.iqm) if r.iqm is not None else "",
        f'<span class="num">{"1 run" if card.single else count(r)}</span>',
        f'<span class="num">{median(r)}{at_once}</span>',
        paper(card),
        f"<small>{escape(r.machine)}</small>",
    ]
    return f'<tr><th scope="row">{link}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def name(card: Card) -> str:
    return f"{card.result.recipe}, seed {seed_of(card.result)}" if card.single else card.result.recipe


def seed_of(result: Result) -> str:
    return ", ".join([*map(str, result.seeds), *result.failures])


def anchor(card: Card) -> str:
    return name(card).replace(", ", "-").replace(" ", "-")


def system(card: Card) -> str:
    return f"{card.system} on {card.data}" if card.system and card.data else card.system or card.data


def paper(card: Card) -> str:
    """The paper's headline, and its arXiv number as a link."""
    head = card.headline
    link = (
        f'<small><a href="https://arxiv.org/abs/{escape(head.arxiv)}">arXiv {escape(head.arxiv)}</a></small>'
        if head and head.arxiv
        else ""
    )
    return escape(published(head)) + link


def badge(card: Card) -> str:
    """The verdict in colour, sign and words."""
    sign = SIGNS.get(card.verdict, "○")
    colour = {"✓": "good", "✗": "bad"}.get(sign, "")
    return f'<span class="verdict {colour}">{sign} {card.verdict}</span>'


def strip(r: Result) -> str:
    """The seeds as dots on a line, with the interval as a bar, the mean as a tick and the claim as a dashed line."""
    if r.claim is None or not r.values:
        return ""
    bound = r.claim.at_least if r.claim.at_least is not None else r.claim.at_most
    assert bound is not None
    ends = [*r.values, bound, *(r.interval or ())]
    low, width = min(ends), (max(ends) - min(ends)) or 1.0

    def line(a: float, b: float, top: int, bottom: int, look: str) -> str:
        x1, x2 = (f"{6 + 148 * (x - low) / width:.1f}" for x in (a, b))
        return f'<line x1="{x1}" x2="{x2}" y1="{top}" y2="{bottom}" {look}/>'

    wide = 'stroke="var(--accent)" stroke-width="7" stroke-opacity=".25" stroke-linecap="round"'
    dot = 'stroke="var(--accent)" stroke-width="6" stroke-opacity=".75" stroke-linecap="round"'
    bar = line(*r.interval, 14, 14, wide) if r.interval else ""
    claim = line(bound, bound, 2, 26, 'stroke="var(--claim)" stroke-width="1.5" stroke-dasharray="4 2"')
    dots = "".join(line(v, v, 14, 14, dot) for v in r.values)
    mean = line(r.mean, r.mean, 7, 21, 'stroke="currentColor" stroke-width="1.5"') if r.mean is not None else ""
    label = f"{len(r.values)} seeds from {short(min(r.values))} to {short(max(r.values))}, claim {short(bound)}"
    return f'<svg viewBox="0 0 160 28" role="img" aria-label="{label}">{bar}{claim}{dots}{mean}</svg>'


# ---- one card


def article(card: Card) -> str:
    """Curve, samples, and how it was run."""
    r = card.result
    head = f"<div><h2>{escape(card.title or r.recipe)}</h2><small>{escape(name(card))}</small></div>{badge(card)}"
    pictures, listed = "".join(plot(r, key) for key in r.curves), definitions(facts(card))
    beside, below = (samples(card), listed) if card.picture or card.more else (listed, "")
    return (
        f'<article id="{escape(anchor(card))}"><header>{head}</header><div class="pair">{pictures}{beside}</div>'
        f"{below}{failures(r)}</article>"
    )


def plot(r: Result, key: str) -> str:
    curve = r.curves[key]
    if not curve["steps"]:
        return ""
    svg = curve_svg(curve["steps"], curve["values"], key=key, claim=r.claim)
    below = f"<figcaption>{escape(text)}</figcaption>" if (text := caption(r)) else ""
    return f"<figure><h3>Learning curve</h3>{svg}{below}</figure>"


def samples(card: Card) -> str:
    """Samples, and what else there is to see."""
    recipe = card.result.recipe
    drawn = image(card.picture, "Samples", f"Samples that {recipe} drew") if card.picture else ""
    more = [image(path, what.capitalize(), f"{what.capitalize()} by {recipe}") for what, path in card.more.items()]
    return drawn + "".join(more)


def image(path: Path, title: str, label: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    shown = f'<img alt="{escape(label)}" src="data:image/png;base64,{data}">'
    return f'<figure class="samples"><h3>{escape(title)}</h3>{shown}</figure>'


def facts(card: Card) -> dict[str, str]:
    """What the list under the pictures says, as HTML; what is empty is left out."""
    r = card.result
    said = {
        "Paper": paper(card),
        "Claim": escape(str(r.claim or "none")),
        "Seeds": escape(", ".join(f"{short(v)} (seed {s})" for s, v in zip(r.seeds, r.values, strict=False))),
        "Also measured": escape(also(r)),
        "Settings": escape(", ".join(f"{k} = {json.dumps(v, default=str)}" for k, v in r.settings.items())),
        "Command": f"<code>{escape(r.command)}</code>",
        "Machine": escape(r.machine),
        "Versions": escape(", ".join(f"{k} {v}" for k, v in r.versions.items())),
        "Commit": f"<code>{escape(', '.join(r.git))}</code>" if r.git else "",
        "Date": escape(r.date.replace("T", " ").replace("+00:00", " UTC")),
        "Note": escape(card.note),
    }
    return {k: v for k, v in said.items() if v}


def also(r: Result) -> str:
    """The means of the other metrics."""
    known = {k: [v for v in values if v is not None] for k, values in r.metrics.items() if k != r.metric}
    return ", ".join(f"{k} {short(sum(v) / len(v))}" for k, v in known.items() if v)


def definitions(said: Mapping[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{k}</dt><dd>{v}</dd>" for k, v in said.items()) + "</dl>"


def failures(r: Result) -> str:
    """Seeds without a value, with the end of what they said."""
    told = "".join(f"<p><strong>Seed {escape(s)}</strong></p><pre>{escape(why)}</pre>" for s, why in r.failures.items())
    return f'<section class="why"><h3>Without a value</h3>{told}</section>' if told else ""
