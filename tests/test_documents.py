"""The Markdown is run: links lead somewhere, tables are those of the code, commands parse, and the walk-through works."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

from benchmarks import page
from ray_jobs.command.requests import check, parse
from ray_jobs.command.verbs import VERBS
from ray_jobs.jobs import backend_options
from ray_jobs.report import algorithm_pages, systems
from tests import faults
from tests.cluster import approving

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
    for path in re.findall(r"`((?:lightning_modules|datamodules|ray_jobs|cluster|tests|benchmarks)/[\w/.]+)`", text):
        assert (ROOT / path).exists() or "rewards_to_go" in path, path


def test_the_table_of_systems_is_made_from_the_docstrings():
    page = ROOT / "README.md"
    assert page.read_text() == systems.with_table(page.read_text()), "run: python -m ray_jobs.report.systems"
    assert systems.PAGE.read_text() == systems.markdown(), "run: python -m ray_jobs.report.systems"
    rows = systems.systems()
    assert all(s["Source"] for s in rows) and len(rows) >= 35


def test_the_pages_of_algorithms_are_made_from_them():
    pages = algorithm_pages.pages()
    assert {p.name for p in algorithm_pages.PAGES.glob("*.md")} == set(pages)
    for name, text in pages.items():
        assert (algorithm_pages.PAGES / name).read_text() == text, (
            f"{name}: run python -m ray_jobs.report.algorithm_pages"
        )


def test_the_page_of_speed_is_made_from_what_was_recorded():
    assert page.PAGE.read_text() == page.page(), "run: python -m benchmarks.page"


def test_the_page_of_faults_is_made_from_what_was_measured():
    rows, tests = faults.recorded(), faults.declared()
    assert faults.PAGE.read_text() == faults.page(rows, tests), "run: python -m tests.faults"
    for row in rows:
        kind, name = tests[row["test"]]  # a row is of a test that there is
        assert row["kind"] == kind and re.fullmatch(re.sub(r"\\\{.+?\\\}", ".+", re.escape(name)), row["fault"])


def commands() -> list[str]:
    pages = [(ROOT / name).read_text() for name in ("README.md", "docs/data.md", "docs/diffusion.md")]
    blocks = [b for text in pages for b in re.findall(r"```(?:bash|text)\n(.*?)```", text, re.S)]
    return [line for b in blocks for line in b.splitlines() if line.startswith("reprise ") and " | " not in line]


@pytest.mark.parametrize("line", commands(), ids=lambda x: " ".join(x.split()[1:3]))
def test_the_commands_of_the_readme_and_of_pages_like_it_exist(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "state"))
    approving.write("lab: {on: slurm}", tmp_path / "clusters.yaml")
    words = shlex.split(re.split(r"\s{3,}", line)[0])[1:]
    words = [w for w in words if w not in ("--config", "mine.yaml")]
    if words[0] == "submit":
        words = list(backend_options.read("submit", words[1:]).argv)
    request = parse(words)
    assert request.verb in VERBS
    check(request)


def test_the_verbs_of_the_readme_are_all_the_verbs():
    text = (ROOT / "README.md").read_text()
    assert [v for v in VERBS if not re.search(rf"\b{v}\b", text)] == []


@pytest.fixture()
def walked(monkeypatch, tmp_path):
    """The two files of CONTRIBUTING.md, written beside the project's algorithms and as a user's recipe."""
    first, second = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)
    (tmp_path / "algorithms").mkdir()
    (tmp_path / "algorithms" / "rewards_to_go.py").write_text(first)
    (tmp_path / "rewards_to_go_recipes.py").write_text(second)
    family = importlib.import_module("ray_jobs.rl.algorithms")
    monkeypatch.setattr(family, "__path__", [*family.__path__, str(tmp_path / "algorithms")])
    yield importlib.import_module("ray_jobs.rl.algorithms.rewards_to_go"), str(tmp_path / "rewards_to_go_recipes.py")
    del sys.modules["ray_jobs.rl.algorithms.rewards_to_go"]


def test_the_walk_through_trains_and_learns(walked):
    from ray_jobs.recipe.settings import build, check
    from ray_jobs.rl.learning.play import play
    from tests.contracts.test_algorithms import Nothing, test_actions_fit_the_space

    algorithm, recipe = walked
    for kind in ("discrete", "box"):
        test_actions_fit_the_space(algorithm, algorithm.RewardsToGo, kind)
    assert check(recipe, {"lr": "1e-2", "gamma": "0.9"}) == {"lr": 1e-2, "gamma": 0.9}
    result = play(build(recipe, {"steps": 20_000}), seed=0, run=Nothing())
    assert result["episode_return"] > 100  # a random policy's is about 22
