"""n-step TD and LSTD against exact learning curves, plain loops, batch TD(0), the estimated process and averages of returns."""

import numpy as np
import pytest

from ray_jobs import cli
from ray_jobs.distributed.crew import Here
from ray_jobs.recipe.process import generator
from ray_jobs.tabular.draws import Simulator
from ray_jobs.tabular.episodic import least_squares, n_step
from ray_jobs.tabular.episodic.episodes import Step, play_policy
from ray_jobs.tabular.episodic.least_squares import LSTD, limit_error, solved
from ray_jobs.tabular.episodic.monte_carlo import MonteCarlo
from ray_jobs.tabular.episodic.n_step import NStepTD
from ray_jobs.tabular.learning_curve import exact_errors
from ray_jobs.tabular.mdp import uniform_policy
from ray_jobs.tabular.walks import random_walk
from tests.ray_jobs.processes import run, three_ways

WALK = "ray_jobs.tabular.walks:random_walk"
NINETEEN = {"states": 19, "left": -1.0}


def steps_of(episode):
    """The steps of one run whose episode is [(state, reward), ...], among five states."""
    one = np.zeros(1, np.int64)
    afters = [s for s, _ in episode[1:]] + [5]
    return [Step(one, one + s, one, np.array([r]), one + to) for (s, r), to in zip(episode, afters, strict=True)]


def an_episode(seed=0, length=9):
    rng = np.random.default_rng(seed)
    return [(int(s), float(r)) for s, r in zip(rng.integers(5, size=length), rng.normal(size=length), strict=True)]


# ---- n-step TD


@pytest.mark.parametrize("n", [1, 2, 4, 8, 9, 20])
def test_updates_are_the_books(n):
    """By the pseudocode of section 7.1, with the values as they are at each time; from 9 steps on it is Monte Carlo."""
    episode, gamma, alpha = an_episode(), 0.9, 0.3
    v = np.random.default_rng(1).normal(size=(1, 5))
    w, length = v[0].copy(), len(episode)
    for t in range(length + n - 1):
        tau = t - n + 1
        if tau >= 0:
            g = sum(gamma ** (i - tau) * episode[i][1] for i in range(tau, min(tau + n, length)))
            g += gamma**n * w[episode[tau + n][0]] if tau + n < length else 0.0
            w[episode[tau][0]] += alpha * (g - w[episode[tau][0]])
    n_step.learn(NStepTD(gamma=gamma, n=n, alpha=alpha), v, steps_of(episode))
    np.testing.assert_allclose(v[0], w, atol=1e-12)


@pytest.mark.parametrize(("n", "states", "left", "gamma"), [(1, 5, 0.0, 1.0), (2, 5, 0.0, 1.0), (3, 3, -2.0, 0.8)])
def test_runs_follow_the_exact_curve(n, states, left, gamma):
    """False alarms: 6 of 100,000 each. Another n or step size is many errors away."""
    process = NStepTD(WALK, {"states": states, "left": left}, gamma=gamma, n=n, alpha=0.4, runs=4_000)
    state = run(process, 8)
    found = process.result(state, 0, Here())
    assert found["z"] <= 4
    each = np.square(state["values"] - state["exact"]).mean(1)
    other = exact_errors(random_walk(states, left, gamma=gamma), state["policy"], 0.4, 0.5, 8, n + 1)[-1]
    assert abs(each.mean() - other**2) > 5 * each.std() / len(each) ** 0.5


def test_rewards_of_single_outcomes_are_in_the_exact_curve():
    """A state that pays 1 only where it loops: mean rewards would have another second moment."""
    process = NStepTD("ray_jobs.tabular.examples.loops:loop", n=2, alpha=0.3, initial=0.0, runs=4_000)
    assert process.result(run(process, 8), 0, Here())["z"] <= 4


@pytest.mark.parametrize(("n", "alpha", "want"), [(1, 0.8, 0.346), (2, 0.6, 0.278), (4, 0.4, 0.266), (8, 0.3, 0.287)])
def test_the_walk_of_19_states_has_the_errors_of_the_books_figure(n, alpha, want):
    """Figure 7.2's measure, against 150 runs with a standard error of 0.004 made apart."""
    process = NStepTD(WALK, NINETEEN, n=n, alpha=alpha, initial=0.0, runs=200)
    found = process.result(run(process, 10), 0, Here())
    assert found["mean_rms_error"] == pytest.approx(want, abs=0.016)
    assert "z" not in found


# ---- LSTD


def by_lstd(process, episodes):
    """The values [5] of one run after these episodes."""
    sums = np.zeros((1, 5, 5)), np.zeros((1, 5)), np.zeros((1, 5), np.int64)
    for episode in episodes:
        least_squares.learn(process, *sums, steps_of(episode))
    return solved(*sums, process.initial)[0]


def test_it_solves_for_the_values_of_the_estimated_process():
    """Certainty equivalence: transitions and mean rewards are counted, and the values solved for; batch TD(0) has the same limit."""
    episodes = [an_episode(seed, 6) for seed in range(8)]
    counts, paid, visits = np.zeros((5, 5)), np.zeros(5), np.zeros(5)
    for episode in episodes:
        for k, (s, r) in enumerate(episode):
            visits[s], paid[s] = visits[s] + 1, paid[s] + r
            if k + 1 < len(episode):
                counts[s, episode[k + 1][0]] += 1
    want = np.linalg.solve(np.eye(5) - 0.9 * counts / visits[:, None], paid / visits)
    np.testing.assert_allclose(by_lstd(LSTD(gamma=0.9), episodes), want, atol=1e-10)
    v = np.zeros(5)
    for _ in range(2_000):
        v += (paid + 0.9 * counts @ v - visits * v) / visits.max() / 2
    np.testing.assert_allclose(v, want, atol=1e-10)


def test_it_uses_what_monte_carlo_does_not():
    """Sutton & Barto 2018, example 6.4: V(A) is 3/4, and the average of A's returns is 0. Other states keep their value."""
    episodes = [[(0, 0.0), (1, 0.0)], *[[(1, 1.0)]] * 6, [(1, 0.0)]]
    np.testing.assert_allclose(by_lstd(LSTD(), episodes), [0.75, 0.75, 0.5, 0.5, 0.5], atol=1e-12)
    np.testing.assert_allclose(by_lstd(LSTD(lam=1.0), episodes), [0.0, 0.75, 0.5, 0.5, 0.5], atol=1e-12)


def test_with_lambda_1_it_averages_the_returns_of_every_visit():
    """The same episodes as those of Monte Carlo: both draw by (seed, step, shard)."""
    least = run(LSTD(gamma=0.9, lam=1.0, runs=50), 6)
    monte = run(MonteCarlo(WALK, gamma=0.9, visits="every", runs=50), 6)
    found = solved(least["matrix"], least["vector"], least["visits"], 0.5)
    seen = monte["weights"] > 0
    assert (seen == (least["visits"] > 0)).all()
    np.testing.assert_allclose(found[seen], monte["sums"][seen] / monte["weights"][seen], atol=1e-10)


def test_between_0_and_1_the_mean_update_of_td_lambda_is_0():
    """With accumulating traces, over all episodes, at the values that it finds."""
    process, episodes = LSTD(gamma=0.9, lam=0.6), [an_episode(seed, 6) for seed in range(8)]
    v, total = by_lstd(process, episodes), np.zeros(5)
    for episode in episodes:
        z = np.zeros(5)
        for k, (s, r) in enumerate(episode):
            z *= 0.9 * 0.6
            z[s] += 1
            total += z * (r + (0.9 * v[episode[k + 1][0]] if k + 1 < len(episode) else 0.0) - v[s])
    np.testing.assert_allclose(total, 0.0, atol=1e-10)


def test_its_error_is_that_of_the_limit():
    """After 400 episodes of 400 runs. The mean square has a relative standard error of 0.06; 3.9 of them are 11% of the root."""
    mdp, found = random_walk(), []
    sums = np.zeros((400, 5, 5)), np.zeros((400, 5)), np.zeros((400, 5), np.int64)
    for step in range(400):
        least_squares.learn(LSTD(), *sums, play_policy(Simulator.of(mdp), uniform_policy(mdp), 400, generator(5, step)))
    found = np.square(solved(*sums, 0.5) - np.arange(1, 6) / 6).mean() ** 0.5
    assert found == pytest.approx(limit_error(mdp, uniform_policy(mdp), 400), rel=0.11)


# ---- as studies


@pytest.mark.parametrize("process", [NStepTD(runs=2_500, n=3), LSTD(runs=600, lam=0.5)], ids=lambda p: type(p).__name__)
def test_the_bits_are_the_same_after_a_checkpoint_and_on_workers(process, ray_cluster):
    whole, parted, spread = three_ways(process)
    for name in whole:
        assert np.array_equal(whole[name], parted[name]) and np.array_equal(whole[name], spread[name]), name


@pytest.mark.parametrize(
    ("recipe", "metric"), [("nstep_randomwalk", "exact_error"), ("lstd_randomwalk", "limit_error")]
)
def test_as_a_user_meets_it(recipe, metric, tmp_path, capsys):
    words = ["train", recipe, "--runs", "50", "--steps", "3"]
    assert cli.main([*words, "--out", str(tmp_path / "run")]) == 0
    assert metric in capsys.readouterr().out and (tmp_path / "run/error.png").stat().st_size > 5_000
    assert cli.main([*words, "--env", "ray_jobs.tabular.mdp:random_mdp", "--out", str(tmp_path / "no")]) == 2
    assert "need not end under the policy uniform" in capsys.readouterr().err
