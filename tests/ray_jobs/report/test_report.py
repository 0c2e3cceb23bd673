from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ray_jobs.errors import UsageError
from ray_jobs.recipe.declare import Claim
from ray_jobs.recipe.spec import Spec
from ray_jobs.report.report import report
from ray_jobs.results import plots
from ray_jobs.results import store as results
from ray_jobs.results.statistics import summarize, verdict
from ray_jobs.results.store import Result
from ray_jobs.rl.learning.counters import WINDOW
from ray_jobs.run.folder import Run

sys.path.insert(0, str(Path(__file__).parents[1]))
from lab import write_recipe

CLAIM = Claim("score", at_least=475, seeds=3)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def aim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [n for n in sys.modules if n.startswith("fakelab")]:
        monkeypatch.delitem(sys.modules, name)
    return write_recipe(tmp_path, "aim")


def result(recipe: str, values: list[float], **more: object) -> Result:
    s = summarize(values)
    words = verdict(CLAIM, s, complete=not more.get("failures"))
    curves = {"score": {"steps": [1, 2, 3], "values": [[1.0, 200.0 + i, v] for i, v in enumerate(values)]}}
    fields = {
        "command": "reprise reproduce aim --seeds 3", "seeds": list(range(len(values))), "values": values, "mean": s.mean,
        "iqm": s.iqm, "interval": s.interval, "verdict": words, "holds": words.endswith("holds"), "seconds": [40.0] * len(values),
        "machine": "Abacus, 2 cores", "date": "2026-01-02T03:04:05+00:00", "git": ["abc"], "curves": curves, "jobs": 2,
    }  # fmt: skip
    return Result(recipe, CLAIM, **(fields | more))


def run(folder: Path, recipe: str, seed: int = 0, *, state: str = "finished", score: float = 480.0) -> str:
    made = Run.create(Spec(recipe, {}, seed, out=str(folder)), kind="Play", command=["reprise", "train", "a & b"])
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": i, "time": i, "score": i}) + "\n" for i in (1, 2))
    )
    if state == "finished":
        made.finish({"score": score}, step=100, device="cpu")
    else:
        (folder / "log.txt").write_text("much\nloss <nan> at step 7\n")
        made.status(state, 7, 100)
    made.release()
    return str(folder)


class Tags(HTMLParser):
    """Checks that every tag is closed, and gathers text and what would be loaded."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.loaded: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(page)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.loaded += [v for k, v in attrs if v and (k == "src" or (k == "href" and tag != "a"))]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        assert "script" not in tag
        assert not any(k.startswith("on") for k in found)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {' '.join(data.split())}".strip()


def test_the_page_says_what_was_measured(aim: str, tmp_path: Path) -> None:
    results.save(result(aim, [500.0, 490.0, 495.0]), tmp_path / "results")
    page = Tags(report(out=str(tmp_path / "r.html"), results=str(tmp_path / "results")).read_text())
    assert "1 of 1 claims hold, 1 of them clearly" in page.text
    head, row = page.rows
    assert dict(zip(head, row, strict=True)) == {
        "Recipe": f"{aim} AIM on targets", "Verdict": "✓ clearly holds", "Claim": "score ≥\xa0475".replace("\xa0", " "),
        "Measured [95% interval]": results.describe(result(aim, [500.0, 490.0, 495.0])), "IQM": "495", "Seeds": "3 seeds",
        "Time": "40 s 2 at a time", "Paper": "Doe & Roe 2017: score 500 (table 1) arXiv 1707.00001", "Machine": "Abacus, 2 cores",
    }  # fmt: skip
    assert page.loaded == []


def test_failures_are_shown_and_everything_is_escaped(aim: str, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> | & \"'"
    bad = result(aim, [500.0, 499.0], failures={"2": evil}, settings={evil: evil}, machine=evil, command=evil)
    results.save(bad, tmp_path / "results")
    out = report(out=str(tmp_path / "r.html"), results=str(tmp_path / "results"), markdown=str(tmp_path / "pages"))
    page = Tags(out.read_text())
    assert "○ not shown" in page.text
    assert "0 of 1 claims hold" in page.text
    assert page.text.count("<script>alert(1)</script>") == 6  # machine twice, a setting and its value, command, failure
    assert "differ from the recipe's own" in page.text
    assert "<script>" not in (tmp_path / "pages" / "own.md").read_text().replace(f"\n    {evil}\n", "")


def test_a_script_in_a_verdict_is_shown_as_text(aim: str, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    results.save(result(aim, [500.0, 490.0, 495.0], verdict=evil), tmp_path / "results")
    page = report(out=str(tmp_path / "r.html"), results=str(tmp_path / "results")).read_text()
    assert evil in Tags(page).text
    assert evil not in page


def test_the_page_explains_that_an_agents_curve_is_not_what_the_claim_measures(aim: str, tmp_path: Path) -> None:
    def text(**more: object) -> str:
        results.save(result("aim", [500.0, 490, 495], **more), tmp_path / "results")
        return report(out=str(tmp_path / "r.html"), results=str(tmp_path / "results")).read_text()

    assert f"newest {WINDOW} training episodes" in text(metrics={"train_return": [400.0, 410, 405]})
    assert "<figcaption" not in text()


def test_the_page_shows_that_a_claim_has_changed_since(aim: str, tmp_path: Path) -> None:
    old = result(aim, [500.0, 490.0, 495.0])
    results.save(Result(**old.__dict__ | {"claim": Claim("score", at_least=300)}), tmp_path / "results")
    gone = Result(**old.__dict__ | {"recipe": "fakelab.gone"})
    results.save(gone, tmp_path / "results")
    page = Tags(report(out=str(tmp_path / "r.html"), results=str(tmp_path / "results")).read_text())
    assert "an earlier claim; the recipe's is now score ≥ 475" in page.text
    assert "fakelab.gone" in page.text


def test_fresh_seeds_are_shown_next_to_the_recorded_ones(aim: str, tmp_path: Path) -> None:
    where = tmp_path / "results"
    results.save(result(aim, [490.0, 480.0, 500.0]), where)
    results.save(result(aim, [490.0, 470.0, 481.0, 483.0], seeds=[100, 101, 102, 103]), where / results.FRESH)
    out = report(out=str(tmp_path / "r.html"), results=str(where), markdown=str(tmp_path / "pages"))
    values = [490.0, 470.0, 481.0, 483.0]
    bound = 481 - stats.t.ppf(0.95, 3) * np.std(values, ddof=1) * (1 + 1 / 4) ** 0.5
    low, high = summarize(values).interval or (0, 0)
    sentence = (
        f"seeds 100 to 103: 481 [{low:.4g}, {high:.4g}]; 3 of 4 keep score ≥ 475 by themselves; "
        f"a new one stays above {bound:.4g} with 95%"
    )
    assert sentence in Tags(out.read_text()).text
    page = (tmp_path / "pages" / "own.md").read_text()
    assert "| 3 seeds | 3 of 4 |" in page and f"- New seeds: {sentence}".replace("[", "\\[").replace("]", "\\]") in page


def test_runs_are_shown_against_their_claims(aim: str, tmp_path: Path) -> None:
    good = run(tmp_path / "good", aim)
    for shown in ("samples", "samples-reconstructions"):
        plots.grid(np.zeros((4, 1, 3, 3)), tmp_path / "good" / f"{shown}.png")
    free = write_recipe(tmp_path, "free", claim="None")
    others = [
        run(tmp_path / "bad", aim, 1, score=3.0),
        run(tmp_path / "free", free),
        run(tmp_path / "dead", aim, 2, state="failed"),
    ]
    page = Tags(report(out=str(tmp_path / "r.html"), runs=[good, *others]).read_text())
    assert [row[1] for row in page.rows[1:]] == ["✓ reached", "✗ missed", "○ no claim", "○ not finished"]
    assert "1 of 4 runs reaches its claim." in page.text
    assert "failed, at step 7 of 100" in page.text
    assert "loss <nan> at step 7" in page.text
    assert "reprise train 'a & b'" in page.text
    assert [v[:22] for v in page.loaded] == ["data:image/png;base64,"] * 2
    assert "Reconstructions" in page.text


def test_nothing_to_show_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="nothing to report yet"):
        report(out=str(tmp_path / "r.html"), results=str(tmp_path / "empty"))
    with pytest.raises(UsageError, match="no folder of results"):
        report(out=str(tmp_path / "r.html"), results=str(tmp_path / "missing"))
    with pytest.raises(UsageError, match="is not a run folder"):
        report(out=str(tmp_path / "r.html"), runs=[str(tmp_path / "empty")])
    assert not (tmp_path / "r.html").exists()


def test_markdown_has_the_table_and_changes_only_with_a_measurement(aim: str, tmp_path: Path) -> None:
    results.save(result(aim, [500.0, 490.0, 495.0]), tmp_path / "results")
    plots.grid(np.zeros((1, 1, 3, 3)), tmp_path / "results" / f"{aim}.png")
    texts = []
    for _ in range(2):
        report(out=str(tmp_path / "r.html"), results=str(tmp_path / "results"), markdown=str(tmp_path / "pages"))
        texts.append((tmp_path / "pages" / "own.md").read_text())
    assert texts[0] == texts[1]
    rows = [line for line in texts[0].splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert "[Doe & Roe 2017: score 500 (table 1)](https://arxiv.org/abs/1707.00001) | score ≥ 475" in rows[2]
    link = re.search(r"!\[.*\]\((.*)\)", texts[0])
    assert link
    assert (tmp_path / "pages" / link[1]).is_file()
    assert "[own](own.md)" in (tmp_path / "pages" / "README.md").read_text()


PROBE = """<script>document.title = JSON.stringify({
  wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  images: [...document.images].map(i => i.naturalWidth),
  curve: document.querySelector("figure svg").getBoundingClientRect().width,
  line: getComputedStyle(document.querySelector("figure svg path[style*='--accent']")).stroke,
  paper: getComputedStyle(document.body).backgroundColor,
  twice: [...document.querySelectorAll("[id]")].map(e => e.id).filter((x, i, all) => all.indexOf(x) != i)})</script>"""


def look(page: Path, folder: Path, *flags: str) -> dict:
    """What Chromium makes of the page; the script that looks is in a copy of it."""
    copy = folder / "probe.html"
    copy.write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        *quiet,
        "--disable-component-update",
        f"--user-data-dir={folder / 'user'}",
    ]
    done = subprocess.run([*command, *flags, "--dump-dom", copy.as_uri()], capture_output=True, text=True, timeout=100)
    found = re.search("<title>(.*?)</title>", done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(found[1].replace("&amp;", "&"))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_chromium_renders_it_in_light_and_dark_wide_and_narrow(aim: str, tmp_path: Path) -> None:
    results.save(result(aim, [500.0, 490.0, 495.0]), tmp_path / "results")
    plots.grid(np.zeros((4, 1, 8, 8)), tmp_path / "results" / f"{aim}.png")
    single = run(tmp_path / "one", aim)
    page = report(out=str(tmp_path / "r.html"), results=str(tmp_path / "results"), runs=[single])
    light = look(page, tmp_path, "--window-size=1280,900", "--blink-settings=preferredColorScheme=1")
    assert light["wide"] <= 0  # nothing sticks out to the right
    assert len(light["images"]) == 1
    assert light["images"][0] > 0
    assert light["curve"] > 300
    assert light["twice"] == []
    dark = look(page, tmp_path, "--window-size=500,900", "--blink-settings=preferredColorScheme=0")
    assert dark["wide"] <= 0
    assert dark["paper"] != light["paper"]
    assert dark["line"] != light["line"]
    assert os.path.getsize(page) < 500_000


def test_results_that_do_not_fit_are_passed_over_with_a_sentence(aim: str, tmp_path: Path) -> None:
    """Values of a wrong type or shape, and names that lead elsewhere: the page is made of the others."""
    where = tmp_path / "results"
    results.save(result(aim, [500.0, 490.0, 495.0]), where)
    good = json.loads((where / f"{aim}.json").read_text())
    values = (None, True, -1, "<script>alert(1)</script>\x1b[31m", [], {}, [[1]], {"a": 1}, float("inf"), 10**400)
    for n, (field, value) in enumerate((field, value) for field in good for value in values):
        (where / f"bad{n}.json").write_text(json.dumps(good | {"recipe": f"other{n}", field: value}))
    for n, name in enumerate(("../../x", "/x", "a\\b", "a`b", "", "x" * 300)):
        (where / f"name{n}.json").write_text(json.dumps(good | {"recipe": name}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        page = report(out=str(tmp_path / "r.html"), results=str(where), markdown=str(tmp_path / "md")).read_text()
    assert aim in page and "<script" not in page and "\x1b" not in page and "../" not in page
    assert all("<script" not in file.read_text() for file in (tmp_path / "md").iterdir())
