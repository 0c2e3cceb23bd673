"""Bandits against exact values: the regret of two arms, the least Bayes regret, the law of the rewards; and what is refused."""

import csv
import math

import numpy as np
import pytest
from scipy import stats

from ray_jobs import cli
from ray_jobs.bandits import exact, replay
from ray_jobs.bandits.arms import Arms, keys, read_arms, uniform
from ray_jobs.bandits.bayesian_ucb import BayesianUCB
from ray_jobs.bandits.epsilon_greedy import EpsilonGreedy
from ray_jobs.bandits.policies import Seen, drawn, greedy
from ray_jobs.bandits.runs import Moments, recorded
from ray_jobs.bandits.thompson import Thompson
from ray_jobs.bandits.ucb1 import UCB1
from ray_jobs.distributed.crew import Here
from ray_jobs.recipe.process import generator
from tests.ray_jobs.processes import run, three_ways

TWO = Arms((0.6, 0.4))
POLICIES = [
    EpsilonGreedy(),
    EpsilonGreedy(decay=0.1),
    UCB1(),
    BayesianUCB(),
    BayesianUCB(rule="deviations"),
    Thompson(),
]


# ---- exact values


@pytest.mark.parametrize(
    ("policy", "pulls", "regret"),
    [(UCB1(), 100, 5.988810), (EpsilonGreedy(), 100, 4.709820), (Thompson(), 40, 2.373595)],
)
def test_the_exact_regret_has_the_known_value(policy, pulls, regret):
    assert exact.expected_regret(policy, TWO, pulls)[-1] == pytest.approx(regret, abs=1e-6)


def test_the_exact_regret_of_few_pulls_is_that_of_all_that_can_happen():
    """Three pulls of UCB1 by hand: each arm once, then the better one, or either after a tie."""
    p, q, gap = 0.6, 0.4, 0.2
    tie = p * q + (1 - p) * (1 - q)
    found = exact.expected_regret(UCB1(), TWO, 3)
    np.testing.assert_allclose(found, [gap / 2, gap, gap + gap * (tie / 2 + q * (1 - p))], atol=1e-12)


@pytest.mark.parametrize(("pulls", "regret"), [(1, 1 / 6), (10, 0.644881), (50, 1.336621)])
def test_the_least_bayes_regret_has_the_known_value(pulls, regret):
    assert exact.least_bayes_regret(pulls) == pytest.approx(regret, abs=1e-6)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: type(p).__name__)
def test_no_policy_beats_the_least_bayes_regret(policy):
    """Averaged over means on a grid of midpoints, whose error is far below the difference."""
    means, pulls = (np.arange(8) + 0.5) / 8, 8
    mean = np.mean([exact.expected_regret(policy, Arms((p, q)), pulls)[-1] for p in means for q in means])
    assert mean >= exact.least_bayes_regret(pulls) - 0.02


def test_a_beta_variable_is_above_another_with_the_probability_that_an_integral_gives():
    a, b, c, d = (np.array(x, float) for x in ([1, 3, 7, 20], [1, 2, 9, 4], [1, 5, 2, 11], [2, 1, 8, 3]))
    x = (np.arange(200_000) + 0.5) / 200_000
    want = [(stats.beta.pdf(x, i, j) * stats.beta.cdf(x, k, m)).mean() for i, j, k, m in zip(a, b, c, d, strict=True)]
    np.testing.assert_allclose(exact.beta_above(a, b, c, d), want, atol=1e-6)


def test_the_constants_of_the_limit():
    assert exact.lai_robbins(TWO) == pytest.approx(2.466303, abs=1e-6)
    assert exact.ucb1_bound(TWO, 100) == pytest.approx(185.0648, abs=1e-4)
    assert exact.lai_robbins(Arms((1.0, 0.0), 2.0)) == pytest.approx(2 * 2.0**2)
    assert exact.divergence(0.0, 0.5, 0.0) == pytest.approx(math.log(2))


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: type(p).__name__)
def test_two_thousand_runs_have_the_exact_regret(policy):
    """False alarms: 6 of 100,000 for each."""
    process = type(policy)(**{**vars(policy), "runs": 2_000, "block": 10})
    found = process.result(run(process, 4), 0, Here())
    assert found["z"] <= 4 and found["exact_regret"] == pytest.approx(exact.expected_regret(policy, TWO, 40)[-1])


def test_a_wrong_policy_is_found_out():
    """A UCB1 whose bonus is half as large has another regret, by far more than 4 errors."""
    process = UCB1(runs=4_000, block=40)
    halved = UCB1(runs=4_000, block=40, deviation=0.0)
    odds = lambda seen: UCB1.odds(process, Seen(seen.counts, seen.sums, seen.pulls, 0.25))  # noqa: E731
    object.__setattr__(halved, "odds", odds)
    found, want = run(halved, 1), exact.expected_regret(process, TWO, 40)[-1]
    error = found["regret"].std() / math.sqrt(4_000)
    assert abs(found["regret"].mean() - want) > 10 * error


# ---- rewards and choices


def test_rewards_are_a_function_of_run_arm_and_pull():
    arms, key = Arms((0.3, 0.9)), keys(7, 0, 5)
    arm, pull = np.array([0, 1, 0, 1, 1]), np.array([0, 3, 2, 0, 9])
    assert (arms.rewards(key, arm, pull) == arms.rewards(keys(7, 0, 9)[:5], arm, pull)).all()
    assert (keys(7, 2, 3) == key[2:]).all() and not (keys(8, 0, 5) == key).any()


def test_uniform_numbers_are_uniform_and_independent():
    """Kolmogorov-Smirnov and correlations of neighbours, each with a false alarm in 10,000."""
    key, counter = keys(0, 0, 400), np.arange(100)
    u = np.stack([uniform(key, np.full(400, c)) for c in counter])
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-4
    for other in (np.roll(u, 1, 0), np.roll(u, 1, 1)):
        assert abs(np.corrcoef(u.ravel(), other.ravel())[0, 1]) < 3.9 / math.sqrt(u.size)


def test_gaussian_rewards_have_their_mean_and_deviation():
    """20,000 rewards; false alarms: 1 in 10,000."""
    n = 20_000
    x = Arms((0.5, -2.0), 3.0).rewards(keys(1, 0, n), np.ones(n, np.int64), np.zeros(n, np.int64))
    assert abs(x.mean() + 2) < 3.9 * 3 / math.sqrt(n) and abs(x.std() / 3 - 1) < 3.9 / math.sqrt(2 * n)


def test_ties_are_broken_at_random():
    odds = greedy(np.array([[1.0, 1.0, 0.0], [np.inf, 2.0, np.inf]]))
    assert (odds == [[0.5, 0.5, 0], [0.5, 0, 0.5]]).all()
    arm = drawn(np.repeat(odds, 5_000, 0), generator(0))
    share = np.bincount(arm[:5_000], minlength=3) / 5_000
    assert abs(share[0] - 0.5) < 3.9 * 0.5 / math.sqrt(5_000) and share[2] == 0
    assert set(arm[5_000:]) == {0, 2}


def test_gaussian_arms_are_each_pulled_once_first():
    for policy in (UCB1, BayesianUCB, Thompson):
        process = policy(means="0,1,2", deviation=1.0, runs=50, block=3)
        assert (run(process, 1)["counts"] == 1).all()


def test_the_regret_of_gaussian_thompson_grows_as_lai_and_robbins_say():
    """From 300 to 3,000 pulls; the slope is near its limit, here within a third, and far from that of half the deviation."""
    process = Thompson(means="1,0", deviation=1.0, runs=1_000, block=300)
    state = run(process, 10)
    at = [int(np.flatnonzero(state["times"] == t)[0]) for t in (300, 3_000)]
    slope = (state["curve"][at[1]] - state["curve"][at[0]]) / math.log(10)
    assert slope == pytest.approx(exact.lai_robbins(Arms((1.0, 0.0), 1.0)), rel=1 / 3)


# ---- moments, blocks and shards


def test_moments_of_parts_are_those_of_the_whole():
    x = np.random.default_rng(0).normal(size=(3, 70))
    parts = Moments.of(x[:, :20]) + Moments.of(x[:, 20:21]) + Moments.of(x[:, 21:])
    np.testing.assert_allclose(parts.mean, x.mean(1), atol=1e-14)
    np.testing.assert_allclose(parts.error, x.std(1, ddof=1) / math.sqrt(70), atol=1e-14)


def test_the_curve_is_recorded_at_the_same_times_whatever_the_blocks_but_for_their_ends():
    whole = set(recorded(0, 3_000))
    blocks = {int(t) for k in range(30) for t in recorded(100 * k, 100 * k + 100)}
    assert set(range(1, 101)) <= whole <= blocks and blocks - whole <= set(range(100, 3_001, 100))


def test_more_runs_begin_with_the_same_runs():
    """Shards draw apart: 1,000 runs are the first of 1,500."""
    few, more = (run(Thompson(runs=n, block=20), 1) for n in (1_000, 1_500))
    assert (more["counts"][:1_000] == few["counts"]).all()


@pytest.mark.parametrize("of", [EpsilonGreedy, Thompson])
def test_the_bits_are_the_same_after_a_checkpoint_and_on_workers(of, ray_cluster):
    process = of(runs=2_500, block=5)
    whole, parted, spread = three_ways(process)
    for name in whole:
        assert (whole[name] == parted[name]).all() and (whole[name] == spread[name]).all()


# ---- logged rewards


@pytest.fixture()
def logged(tmp_path):
    """A file of 4,000 rewards of three arms that were chosen at random, of means 0.2, 0.5 and 0.7."""
    rng, path = np.random.default_rng(0), tmp_path / "rewards.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arm", "reward"])
        for arm in rng.integers(3, size=4_000):
            writer.writerow(["abc"[arm], int(rng.random() < (0.2, 0.5, 0.7)[arm])])
    return path


def test_a_fixed_choice_on_a_log_has_the_mean_of_its_arm(logged):
    """An epsilon of 1 is the log's own mean; 400 runs of 400 rows; false alarms: 1 in 10,000."""
    process = EpsilonGreedy(data=str(logged), epsilon=1.0, runs=400, block=400)
    found = process.result(run(process, 1), 0, Here())
    assert abs(found["reward"] - found["random_reward"]) < 3.9 * 0.5 / math.sqrt(400 * found["rows"])
    assert found["rows"] == pytest.approx(400 / 3, rel=0.1)


def test_policies_learn_on_a_log(logged):
    for policy in (UCB1, BayesianUCB, Thompson):
        process = policy(data=str(logged), runs=50, block=1_500)
        state = run(process, 1)
        found = process.result(state, 0, Here())
        assert found["random_reward"] + 0.05 < found["reward"] < found["best_reward"]
        assert state["counts"].sum(0).argmax() == 2
        process.pictures(state, logged.parent)
    assert (logged.parent / "rewards.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("arm,gain\na,1\n", "lacks reward, and has arm, gain"),
        ("arm,reward\na,1\na,0\n", "two arms or more, and has 1"),
        ("arm,reward\na,1\nb,1.5\n", "line 3: a reward is a number between 0 and 1, not '1.5'"),
        ("arm,reward\na,1\nb\n", "line 3: a reward is a number between 0 and 1, not None"),
        ("arm,reward\n,1\nb,1\n", "line 2: the arm has no name"),
        ("", "lacks arm and reward, and has none"),
    ],
)
def test_a_log_that_cannot_be_is_one_sentence(text, why, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=why):
        replay.read(str(path))


@pytest.mark.parametrize(
    ("means", "deviation", "why"),
    [
        ("0.5,1.2", 0.0, "between 0 and 1, and --means is '0.5,1.2'"),
        ("0.5", 0.0, "two finite numbers or more"),
        ("0.5,inf", 1.0, "two finite numbers or more"),
        ("half,1", 0.0, "takes numbers with commas"),
    ],
)
def test_arms_that_cannot_be_are_one_sentence(means, deviation, why):
    with pytest.raises(ValueError, match=why):
        read_arms(means, deviation)


def test_as_a_user_meets_it(logged, tmp_path, capsys):
    words = ["bandit_ucb1", "--runs", "50", "--block", "20", "--steps", "2"]
    assert cli.main(["train", *words, "--out", str(tmp_path / "run")]) == 0
    assert "exact_regret" in capsys.readouterr().out
    assert (tmp_path / "run/regret.png").stat().st_size > 5_000
    assert (
        cli.main(["train", "bandit_thompson", "--data", str(logged), "--runs", "20", "--out", str(tmp_path / "log")])
        == 0
    )
    assert "best_reward" in capsys.readouterr().out
    assert cli.main(["train", *words, "--means", "0.2,7", "--out", str(tmp_path / "no")]) == 2
    assert cli.main(["train", *words, "--steps", "0", "--out", str(tmp_path / "no")]) == 2
    assert cli.main(["train", "bandit_ucb1", "--data", "nowhere.csv", "--out", str(tmp_path / "no2")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and "between 0 and 1" in said[0] and "No such file" in said[2]
