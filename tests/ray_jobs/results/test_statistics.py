"""Statistics against their definitions written slowly, and against theorems."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ray_jobs.recipe.declare import Claim
from ray_jobs.results.statistics import Summary, band, interval, iqm, next_seed, summarize, verdict

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12)


def iqm_slow(values: list[float]) -> float:
    cut = math.floor(len(values) / 4)
    middle = sorted(values)[cut : len(values) - cut]
    return sum(middle) / len(middle)


def bca_slow(values: list[float], resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    """Efron and Tibshirani 1993, eqs. 14.9, 14.10, 14.14 and 14.15, one resample at a time."""
    n, mean = len(values), sum(values) / len(values)
    boots = sorted(sum(values[i] for i in rng.integers(n, size=n)) / n for _ in range(resamples))
    below = sum((b < mean) + 0.5 * (b == mean) for b in boots) / resamples
    z0 = stats.norm.ppf(below)
    jack = [(sum(values) - v) / (n - 1) for v in values]
    away = [sum(jack) / n - j for j in jack]
    a = sum(d**3 for d in away) / (6 * sum(d**2 for d in away) ** 1.5)

    def end(z: float) -> float:
        share = stats.norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z)))
        return float(np.quantile(boots, share))

    return end(stats.norm.ppf(0.025)), end(stats.norm.ppf(0.975))


@given(VALUES)
def test_iqm_is_the_mean_of_the_middle_half(values: list[float]) -> None:
    assert iqm(values) == pytest.approx(iqm_slow(values), abs=1e-9)


def test_interval_is_bca() -> None:
    values = [3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.3]
    low, high = bca_slow(values, 20_000, np.random.default_rng(1))
    assert interval(values) == pytest.approx((low, high), abs=0.15)  # 5 standard errors of a 2.5% quantile at 1e4 draws


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=8), st.integers(-4, 4))
def test_interval_lies_within_the_values_and_scales_with_them(values: list[int], power: int) -> None:
    low, high = interval(values)
    assert min(values) <= low <= high <= max(values)
    scale = 2.0**power  # exact in floating point: a rounded tie would move the quantile
    assert interval([scale * v for v in values]) == pytest.approx((scale * low, scale * high))


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    # 400 intervals of 30 normal values, nominal 95% (about 93.5% in truth): below 88.5% by chance with p < 1e-3.
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(400):
        low, high = interval(rng.normal(size=30), resamples=999)
        hits += low <= 0 <= high
    assert 0.885 <= hits / 400 < 0.995


def test_interval_of_degenerate_samples() -> None:
    assert interval([5.0]) is None
    assert interval([2.0, 2.0, 2.0]) == (2.0, 2.0)
    assert interval([1.0, 2.0]) == (1.0, 2.0)
    assert interval([475.0] * 4 + [500.0])[0] == 475.0


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_summary_refuses_what_is_no_number(values: list[float]) -> None:
    with pytest.raises(ValueError, match="all finite"):
        summarize(values)


@given(VALUES)
@settings(max_examples=20, deadline=None)
def test_summary_is_the_three_together(values: list[float]) -> None:
    found = summarize(values)
    assert found.mean == pytest.approx(sum(values) / len(values), abs=1e-9)
    assert (found.iqm, found.interval) == (iqm(values), interval(values))


@pytest.mark.parametrize(
    ("mean", "ends", "up", "down"),
    [
        (5.0, (4.5, 5.5), "clearly holds", "clearly fails"),
        (5.0, (3.0, 7.0), "holds", "fails"),
        (5.0, None, "holds", "fails"),
        (3.0, (2.0, 5.0), "fails", "holds"),
        (3.0, (2.0, 3.5), "clearly fails", "clearly holds"),
    ],
)
def test_verdict(mean: float, ends: tuple[float, float] | None, up: str, down: str) -> None:
    summary = Summary(mean, mean, ends)
    assert verdict(Claim("m", at_least=4), summary) == up
    assert verdict(Claim("m", at_most=4), summary) == down


def test_a_claim_with_failed_seeds_never_holds() -> None:
    good, bad = Summary(5.0, 5.0, (4.5, 5.5)), Summary(3.0, 3.0, (2.0, 3.5))
    claim = Claim("m", at_least=4)
    assert verdict(claim, good, complete=False) == "not shown"
    assert verdict(claim, bad, complete=False) == "clearly fails"
    assert verdict(claim, None) == "not shown"


def test_band_is_students_interval_and_skips_what_is_missing() -> None:
    curves = [[1.0, 2.0, 3.0], [2.0, 4.0, math.nan], [6.0, 9.0, math.nan]]
    mean, low, high = band(curves)
    first = np.array([1.0, 2.0, 6.0])
    expected = stats.t.interval(0.95, 2, loc=3.0, scale=first.std(ddof=1) / math.sqrt(3))
    assert (mean[0], low[0], high[0]) == pytest.approx((3.0, *expected))
    assert (mean[2], low[2], high[2]) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize("above", [True, False])
def test_a_new_seed_keeps_its_bound_with_the_stated_probability(above: bool) -> None:
    rng = np.random.default_rng(0)
    kept = 0
    for _ in range(4000):
        *seen, new = rng.normal(3.0, 2.0, 11)
        bound = next_seed(seen, above=above)
        assert bound is not None
        kept += new >= bound if above else new <= bound
    assert kept / 4000 == pytest.approx(0.95, abs=0.011)


def test_one_seed_bounds_no_other() -> None:
    assert next_seed([1.0], above=True) is None
