"""TD(lambda) against the exact learning curve of TD(0), the online lambda-return algorithm, and plain loops."""

import numpy as np
import pytest

from ray_jobs import cli
from ray_jobs.distributed.crew import Here
from ray_jobs.tabular.learning_curve import exact_moments
from ray_jobs.tabular.mdp import state_values, uniform_policy
from ray_jobs.tabular.temporal_difference import TemporalDifference, exact_curve, learn
from ray_jobs.tabular.walks import random_walk
from tests.ray_jobs.processes import run, three_ways

WALK = random_walk()


def test_the_walks_have_the_values_of_the_book():
    np.testing.assert_allclose(state_values(WALK, uniform_policy(WALK)), np.arange(1, 6) / 6, atol=1e-12)
    wide = random_walk(19, left=-1)
    np.testing.assert_allclose(state_values(wide, uniform_policy(wide)), np.arange(-9, 10) / 10, atol=1e-12)


def test_the_exact_learning_curve_has_the_known_values():
    means, _ = exact_moments(WALK, uniform_policy(WALK), 0.1, np.full(5, 0.5), 100)
    np.testing.assert_allclose(means[1], [0.475, 0.5, 0.5, 0.5, 0.525], atol=1e-12)
    np.testing.assert_allclose(means[100], [0.140426, 0.310987, 0.5, 0.689013, 0.859574], atol=1e-6)
    found = exact_curve(TemporalDifference(), 0, 100)[[0, 1, 10, 100]]
    np.testing.assert_allclose(found, [0.235702, 0.222236, 0.128650, 0.059936], atol=1e-6)


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_two_thousand_runs_follow_the_exact_curve(alpha):
    """False alarms: 6 of 100,000."""
    process = TemporalDifference(alpha=alpha)
    assert process.result(run(process, 20), 0, Here())["z"] <= 4


def test_a_discount_and_random_steps_are_in_the_curve_too():
    """FrozenLake's 4 x 4 cells are too many for it; a random walk with a discount and other rewards is not."""
    process = TemporalDifference(
        gamma=0.8, env_options={"states": 3, "left": -2.0, "right": 3.0}, alpha=0.3, initial=0.0
    )
    assert process.result(run(process, 10), 0, Here())["z"] <= 4


def test_a_wrong_step_is_found_out():
    """The exact curve of another step size is many errors away."""
    state = run(TemporalDifference(alpha=0.12), 20)
    assert TemporalDifference(alpha=0.1).result(state, 0, Here())["z"] > 10


# ---- traces


def one_episode(rng, length=12, states=4):
    """States [T], rewards [T] of an episode that ends after its last step."""
    return rng.integers(states, size=length), rng.normal(size=length)


def by_steps(process, v, states, rewards):
    """The values after an episode, by `learn`."""
    v, z, old, runs = v[None].copy(), np.zeros((1, len(v))), np.zeros(1), np.arange(1)
    for k, (s, reward) in enumerate(zip(states, rewards, strict=True)):
        ahead = v[:, states[k + 1]].copy() if k + 1 < len(states) else np.zeros(1)
        learn(process, v, z, old, runs, np.array([s]), np.array([reward]), ahead)
    return v[0]


def online_lambda_return(process, v, states, rewards):
    """The online lambda-return algorithm, which updates again from the beginning at every step (Sutton & Barto 2018, section 12.4)."""
    gamma, lam, length = process.gamma, process.lam, len(states)
    last = [v.copy()]  # the weights at each horizon
    for horizon in range(1, length + 1):
        w = v.copy()
        for t in range(horizon):
            returns = []
            for end in range(t + 1, horizon + 1):
                ahead = last[end - 1][states[end]] if end < length else 0.0
                paid = sum(gamma ** (k - t) * rewards[k] for k in range(t, end))
                returns.append(paid + gamma ** (end - t) * ahead)
            weights = [(1 - lam) * lam**n for n in range(len(returns) - 1)] + [lam ** (len(returns) - 1)]
            w[states[t]] += process.alpha * (np.dot(weights, returns) - w[states[t]])
        last.append(w)
    return last[-1]


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.9, 1.0])
def test_dutch_traces_are_the_online_lambda_return_algorithm(lam):
    process = TemporalDifference(gamma=0.9, alpha=0.3, lam=lam, traces="dutch")
    rng = np.random.default_rng(0)
    v, (states, rewards) = rng.normal(size=4), one_episode(rng)
    want = online_lambda_return(process, v, states, rewards)
    np.testing.assert_allclose(by_steps(process, v, states, rewards), want, atol=1e-12)
    if lam:
        other = TemporalDifference(gamma=0.9, alpha=0.3, lam=lam)
        assert np.abs(by_steps(other, v, states, rewards) - want).max() > 1e-3


def test_replacing_traces_start_again_at_each_visit():
    process = TemporalDifference(gamma=0.9, alpha=0.3, lam=0.7, traces="replacing")
    rng = np.random.default_rng(1)
    v, (states, rewards) = rng.normal(size=4), one_episode(rng)
    w, z = v.copy(), np.zeros(4)
    for k, (s, reward) in enumerate(zip(states, rewards, strict=True)):
        error = reward + 0.9 * (w[states[k + 1]] if k + 1 < len(states) else 0) - w[s]
        z *= 0.9 * 0.7
        z[s] = 1
        w += 0.3 * error * z
    np.testing.assert_allclose(by_steps(process, v, states, rewards), w, atol=1e-12)


# ---- as a study


@pytest.mark.parametrize("traces", ["accumulating", "dutch"])
def test_the_bits_are_the_same_after_a_checkpoint_and_on_workers(traces, ray_cluster):
    process = TemporalDifference(runs=2_500, lam=0.5, traces=traces)
    whole, parted, spread = three_ways(process)
    for name in ("values", "errors"):
        assert (whole[name] == parted[name]).all() and (whole[name] == spread[name]).all()


def test_as_a_user_meets_it(tmp_path, capsys):
    words = ["train", "td_randomwalk", "--runs", "50", "--steps", "3"]
    assert cli.main([*words, "--out", str(tmp_path / "run")]) == 0
    assert "exact_error" in capsys.readouterr().out and (tmp_path / "run/error.png").stat().st_size > 5_000
    assert cli.main([*words, "--env", "FrozenLake-v1", "--out", str(tmp_path / "lake")]) == 0
    assert "rms_error" in capsys.readouterr().out
    assert cli.main([*words, "--env", "ray_jobs.tabular.mdp:random_mdp", "--out", str(tmp_path / "no")]) == 2
    assert "need not end under the uniform policy" in capsys.readouterr().err
