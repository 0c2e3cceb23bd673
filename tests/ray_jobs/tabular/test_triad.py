"""The deadly triad: the sheet's exact numbers, every method against its equation, and runs against their exact mean."""

import numpy as np
import pytest

from ray_jobs.distributed.crew import Here
from ray_jobs.tabular.approximation import triad, updates
from ray_jobs.tabular.approximation.examples import baird, two_states
from ray_jobs.tabular.approximation.triad import Triad

ALPHA, BETA = 0.013, 0.07


def test_bairds_weights_grow_as_the_closed_form_says():
    """Book, figure 11.2 on the right: the expected update."""
    example = baird()
    m = updates.expected(example, updates.steps(example, "td", 0.01, 0.0))
    np.testing.assert_allclose(np.linalg.eigvals(m).real.max(), 1.00239250, atol=1e-8)
    w = np.linalg.matrix_power(m, 1000) @ example.begin
    np.testing.assert_allclose(w, [114.43] * 6 + [6.85, 335.0], rtol=1e-4)


def test_the_mean_along_a_walk_is_another_one():
    of = Triad(alpha=0.01, block=200)
    state = of.begin(0)
    exact = of.means(of.problem, state["exact"], 0)
    np.testing.assert_allclose(exact.sum(0)[[0, 6, 7]], [7.61551, 9.91127, 20.66908], atol=5e-6)


@pytest.mark.parametrize("example", ["baird", "two_states"])
def test_one_cell_of_eight_diverges(example):
    of = {"baird": baird, "two_states": two_states}[example](0.99)
    found = updates.eight_cells(of, 0.01)
    assert [cell for cell, growth in found.items() if growth > 1 + 1e-9] == [(True, True, True)]


@pytest.mark.parametrize(("gamma", "end"), [(0.99, 0.01), (0.9, 0.01), (0.84, 0.0), (0.83, 0.0)])
def test_fitted_values_of_two_states_grow_by_the_known_ratio(gamma, end):
    """Book, eq. 11.10: gamma (6 - 4 e) / 5 for each sweep; at e = 0 they diverge from gamma = 5/6 on."""
    np.testing.assert_allclose(updates.fitted(two_states(gamma, end)), [[gamma * (6 - 4 * end) / 5]])
    if not end:
        growth = updates.growth(two_states(gamma, end), "td", 0.01, 0.0)
        assert (growth > 1) == (gamma > 5 / 6)


def update(method, example, z, s, t, n):
    """The paper's update after a step from s to t, written with errors."""
    x, after, rho, g = example.features[s], example.features[t], example.ratio[s, t], example.gamma
    w, v = z[:n], z[n:]
    error = g * after @ w - x @ w
    if method == "td":
        return w + ALPHA * rho * error * x
    if method == "monte_carlo":
        return w + ALPHA * (0.0 - x @ w) * x
    if method == "residual":
        return w - ALPHA * rho * error * (g * after - x)
    if method == "slow_target":
        return np.concatenate([w + ALPHA * rho * (g * after @ v - x @ w) * x, v])
    if method == "emphatic":
        follow = example.visits + example.gamma * np.eye(7)[6] / (
            1 - example.gamma
        )  # pi goes to the seventh state and stays
        return w + ALPHA * follow[s] / example.visits[s] * rho * error * x
    return np.concatenate([w + ALPHA * rho * (error * x - g * after * (x @ v)), v + BETA * rho * (error - v @ x) * x])


@pytest.mark.parametrize("method", updates.METHODS)
def test_each_method_is_its_equation(method):
    example, rng = baird(), np.random.default_rng(0)
    z = rng.normal(size=len(updates.begin(example, method)))
    step = updates.steps(example, method, ALPHA, BETA)
    for s in range(7):
        for t in range(7):
            np.testing.assert_allclose(z + step[s, t] @ z, update(method, example, z, s, t, 8), atol=1e-10)


def test_gradient_td_is_bounded_and_leaves_the_value_error():
    """Book, figure 11.5: the projected error falls to nothing, the value error stays near 2."""
    example = baird()
    m = updates.expected(example, updates.steps(example, "tdc", 0.005, 0.05))
    value, projected = updates.errors(example, (np.linalg.matrix_power(m, 1000) @ updates.begin(example, "tdc"))[:8])
    np.testing.assert_allclose([value, projected], [1.935, 0.0074], rtol=0.005)


@pytest.mark.parametrize("method", ["td", "tdc", "slow_target"])
@pytest.mark.parametrize("walk", [True, False])
def test_runs_have_the_exact_mean(method, walk):
    """Error rate: 4.5 standard errors, eight weights: at most 6e-5 for each case."""
    of = Triad(method=method, walk=walk, runs=4_000, block=20, refresh=15, beta=0.1)
    state = of.begin(3)
    for step in range(2):
        of.advance(state, step, 3, Here())
    assert of.result(state, 3, Here())["z"] < 4.5


def test_a_shard_has_the_same_bits_whoever_computes_it(monkeypatch):
    of = Triad(runs=600, block=5)
    monkeypatch.setattr(triad, "SHARD", 200)
    whole = of.begin(1)
    of.advance(whole, 0, 1, Here())
    part = of.begin(1)
    z, _ = triad.walked(of, 1, 0, (200, part["z"][200:400], part["place"][200:400]))
    np.testing.assert_array_equal(whole["z"][200:400], z)


def test_pictures_and_results(tmp_path):
    of = Triad(runs=50, block=5)
    state = of.begin(0)
    of.advance(state, 0, 0, Here())
    found = of.result(state, 0, Here())
    assert found["diverges"] == 1 and found["divergent_cells"] == 1
    of.pictures(state, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"weights.png", "error.png", "cells.png"}


def test_walks_through_two_states_are_refused():
    with pytest.raises(ValueError, match=r"^The states of two_states are drawn for each update: give --walk false\.$"):
        Triad(example="two_states").begin(0)
