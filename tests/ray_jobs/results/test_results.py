from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.recipe.declare import Claim
from ray_jobs.results import store
from ray_jobs.results.store import Result


def example(**changes: object) -> Result:
    fields = {"seeds": [0, 1], "values": [480.0, 500.0], "mean": 490.0, "interval": (480.0, 500.0), "holds": True}
    return Result("aim", Claim("score", at_least=475, seeds=2), "reprise reproduce aim", **(fields | changes))


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    result = example(settings={"lr": 1e-3}, failures={"2": "NaN"}, curves={"loss": {"steps": [1], "values": [[None]]}})
    assert store.read(store.save(result, tmp_path)) == Result(**result.__dict__ | {"interval": [480.0, 500.0]})
    assert list(store.load(tmp_path)) == ["aim"]


def test_a_newer_version_is_read_and_a_damaged_one_passed_over(tmp_path: Path) -> None:
    path = store.save(example(), tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"invented_later": 1}))
    (tmp_path / "broken.json").write_text('{"recipe": "broken"')
    with pytest.warns(UserWarning, match=r"broken\.json is not a result"):
        assert list(store.load(tmp_path)) == ["aim"]
    assert store.load(None) == {}


def test_measured_reads_well(tmp_path: Path) -> None:
    assert store.measured("aim", tmp_path) == ""
    store.save(example(), tmp_path)
    assert store.measured("aim", tmp_path) == "490 [480, 500], 2 seeds"
    store.save(example(holds=False, failures={"2": "why"}), tmp_path)
    assert store.measured("aim", tmp_path) == "✗ 490 [480, 500], 2 of 3 seeds"
    store.save(Result("aim", Claim("score", at_least=1), "c", failures={"0": "why"}), tmp_path)
    assert store.measured("aim", tmp_path) == "✗ no value, 0 of 1 seeds"
    (tmp_path / "aim.json").write_text("{")
    assert store.measured("aim", tmp_path) == "damaged"


def test_folder_is_the_checkouts_own_unless_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.folder(tmp_path) == tmp_path
    assert store.folder() == Path(__file__).resolve().parents[3] / "results"
    monkeypatch.setattr(store, "ROOT", tmp_path)
    assert store.folder() is None


@pytest.mark.parametrize(
    ("wanted", "names", "found"),
    [
        ("score", ["step", "time", "loss", "score"], "score"),
        ("score", ["loss", "eval/score"], "eval/score"),
        ("score", ["lr", "train/noise_loss"], "train/noise_loss"),
        ("score", ["loss", "episode_return"], "episode_return"),
        ("score", ["step", "time"], None),
    ],
)
def test_main_metric(wanted: str, names: list[str], found: str | None) -> None:
    assert store.main_metric(names, wanted) == found


@pytest.mark.parametrize(("seconds", "text"), [(8.21, "8.2 s"), (42, "42 s"), (180, "3 min"), (8640, "2.4 h")])
def test_span(seconds: float, text: str) -> None:
    assert store.span(seconds) == text


@given(st.floats(1e-4, 9e6), st.sampled_from([1, -1]))
def test_short_keeps_four_digits_without_exponents(x: float, sign: int) -> None:
    text = store.short(sign * x)
    assert float(text.replace(",", "")) == pytest.approx(sign * x, rel=6e-4)
    assert "e" not in text


def test_thin_leaves_few_points_as_they_are() -> None:
    runs = [[{"step": 10, "time": 0.1, "loss": 3.0}, {"step": 20, "loss": 1.0}], [{"step": 20, "loss": 5.0}]]
    assert store.thin(runs, "loss") == {"steps": [10.0, 20.0], "values": [[3.0, 1.0], [None, 5.0]]}
    assert store.thin(runs, "score") == {"steps": [], "values": [[], []]}


def test_thin_fills_holes_with_the_line_and_skips_nan() -> None:
    runs = [
        [{"step": s, "loss": 2.0 * s} for s in (0, 4)] + [{"step": 8, "loss": math.nan}],
        [{"step": s, "loss": 0.0} for s in (0, 1, 4, 8)],
    ]
    assert store.thin(runs, "loss") == {"steps": [0, 1, 4, 8], "values": [[0, 2, 8, None], [0, 0, 0, 0]]}


def test_thin_means_over_bins() -> None:
    run = [{"step": s, "loss": float(s % 10)} for s in range(1000)]
    found = store.thin([run], "loss", points=50)
    slow = [sum(s % 10 for s in range(1000) if 999 * i / 50 < s <= 999 * (i + 1) / 50) for i in range(1, 50)]
    counts = [sum(999 * i / 50 < s <= 999 * (i + 1) / 50 for s in range(1000)) for i in range(1, 50)]
    assert found["values"][0][1:] == pytest.approx([a / b for a, b in zip(slow, counts, strict=True)], rel=1e-5)
