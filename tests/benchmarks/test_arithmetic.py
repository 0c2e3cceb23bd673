"""What docs/scale.md counts with: the formulas against their definitions, and the page against the numbers."""

import json
import math
from pathlib import Path

import pytest

from benchmarks import arithmetic, sizes
from benchmarks.arithmetic import lost, ring, young

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_what_the_numbers_make_it():
    page = ROOT / "docs" / "scale.md"
    assert page.read_text() == arithmetic.with_tables(page.read_text()), (
        "run: python -m benchmarks.arithmetic docs/scale.md"
    )
    assert page.read_text().count("<!-- table: ") == 8


@pytest.mark.parametrize(("write", "life"), [(1.0, 1e5), (60.0, 3e6)])
def test_no_other_interval_loses_less_than_youngs(write, life):
    best = young(write, life)
    tried = [best * 1.01**k for k in range(-300, 300)]
    assert min(tried, key=lambda t: lost(t, write, life)) == pytest.approx(best, rel=0.006)


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_a_ring_sends_what_its_steps_add_up_to(n):
    """By the definition: n - 1 rounds in which each passes on the sum of one n-th, and n - 1 in which it passes on the result."""
    parts = [[float(i + 10 * w) for i in range(n)] for w in range(n)]
    want = [sum(column) for column in zip(*parts, strict=True)]
    sent = 0
    for again in (False, True):
        for k in range(n - 1):
            passed = [((w - k + again) % n, parts[w][(w - k + again) % n]) for w in range(n)]
            sent += len(passed)
            for w, (i, x) in enumerate(passed):
                to = (w + 1) % n
                parts[to][i] = x if again else parts[to][i] + x
    assert all(part == want for part in parts)
    assert sent / n / n == pytest.approx(ring(1.0, n))


def test_half_of_the_speed_is_lost_where_sums_take_as_long_as_computing():
    row = {"flop_per_step": 1e13, "parameters": 1e6}
    n = arithmetic.break_even(row, 1e9)
    compute, sums = arithmetic.step_seconds(row) / n, 2 * 4e6 / 1e9
    assert compute == pytest.approx(sums)


@pytest.mark.parametrize(("shards", "workers", "rounds"), [(12, 3, 4), (13, 3, 5), (2, 8, 1)])
def test_a_generation_takes_its_rounds_of_shards_and_two_updates(shards, workers, rounds, monkeypatch):
    monkeypatch.setattr(arithmetic, "CALL", 0.0)
    assert arithmetic.generation([5.0] * shards, 0.5, workers) == pytest.approx(5 * rounds + 2 * 0.5)


def test_a_generation_of_short_shards_takes_as_long_as_its_calls(monkeypatch):
    monkeypatch.setattr(arithmetic, "CALL", 1.0)
    assert arithmetic.generation([0.25] * 40, 0.0, 100) == pytest.approx(40.25)


def test_sizes_and_times_are_told_in_three_digits():
    assert [arithmetic.size(x) for x in (12, 1234, 5.678e9)] == ["12 B", "1.23 kB", "5.68 GB"]
    assert [arithmetic.span(x) for x in (0.0012, 5, 90, 7200, 200_000)] == ["1.2 ms", "5 s", "1.5 min", "2 h", "2.31 d"]


@pytest.mark.parametrize("name", ["ddpm_cifar10", "wgan_gp_cifar10"])
def test_the_sizes_that_were_recorded_are_those_of_the_models(name):
    from ray_jobs.recipe.settings import build

    kept = json.loads((ROOT / "benchmarks/results/sizes.json").read_text())["parts"]["generative models"][name][-1]
    made = build(name, {})
    assert kept["parameters"] == sum(p.numel() for p in made.model.parameters())
    assert (kept["batch"], kept["save_every"]) == (made.batch, made.save_every)


def test_a_checkpoint_is_as_large_as_it_is_counted(tmp_path, monkeypatch):
    """Against the file that a real training leaves; what is not counted is some thousand bytes."""
    from ray_jobs.recipe.spec import Spec
    from ray_jobs.run.folder import Run
    from ray_jobs.train import fit

    monkeypatch.setattr(fit, "_conclude", lambda *_: None)
    spec = Spec("ddpm_digits", {"steps": 2}, out=str(tmp_path / "run"))
    run = Run.create(spec, kind="Fit")
    fit.fit(run, spec)
    written = run.checkpoints()[0].stat().st_size
    made = fit.prepare(spec)
    optimizers = list(sizes.found_optimizers(made.model.configure_optimizers()))
    sizes.step(made.model, sizes.example(made))
    for optimizer in optimizers:
        optimizer.step()
    assert math.isclose(sizes.written(sizes.checkpoint(made, optimizers)), written, rel_tol=0.02)
