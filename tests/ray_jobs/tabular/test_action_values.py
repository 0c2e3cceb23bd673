"""SARSA, expected SARSA, Q-learning and double Q-learning: plain loops, exact limits, the bias of the maximum, and runs that resume."""

import math

import numpy as np
import pytest

from ray_jobs import cli
from ray_jobs.distributed.crew import Here
from ray_jobs.recipe.process import generator
from ray_jobs.tabular.control import SARSA, DoubleQ, ExpectedSARSA, QLearning
from ray_jobs.tabular.controlled import PARTS, Next, chosen, place, played, shards, soft, softened
from ray_jobs.tabular.draws import outcomes_of
from ray_jobs.tabular.dynamic_programming import policy_iteration
from ray_jobs.tabular.environments import of_environment
from ray_jobs.tabular.mdp import state_values
from tests.ray_jobs.processes import run, three_ways

ALL = [SARSA, ExpectedSARSA, QLearning, DoubleQ]


def test_the_best_policy_that_explores_has_the_known_value():
    """On the cliff, epsilon 0.1: the greedy path of that policy keeps one row off the edge."""
    mdp = of_environment("CliffWalking-v1", 1.0)
    found = policy_iteration(softened(mdp, 0.1))
    assert mdp.start @ found.values == pytest.approx(-20.7077, abs=5e-5)
    mixed = soft(found.policy, 0.1)
    np.testing.assert_allclose(state_values(mdp, mixed), found.values, atol=1e-9)


def test_actions_that_are_best_alike_share():
    np.testing.assert_allclose(soft(np.array([1.0, 3.0, 3.0, 0.0]), 0.2), [0.05, 0.45, 0.45, 0.05])
    rng, n = generator(0), 20_000
    q = np.tile([[1.0, 3.0, 3.0, 0.0]], (n, 1))[:, None]
    share = np.bincount(chosen(q, 0.2, rng), minlength=4) / n
    assert np.abs(share - [0.05, 0.45, 0.45, 0.05]).max() < 3.9 * 0.5 / math.sqrt(n)  # false alarms: 4 in 10,000


@pytest.mark.parametrize("of", ALL)
def test_an_update_is_the_books(of):
    """By hand, in two runs with two next actions and, where there are two tables, another one in each."""
    q = np.array([[[1.0, 4.0, 2.0]], [[3.0, -1.0, 0.0]]])
    other = np.array([[[5.0, 6.0, 7.0]], [[8.0, 9.0, -2.0]]])
    tables = np.concatenate([q, other], 1) if of is DoubleQ else q
    table = np.array([0, 1]) if of is DoubleQ else np.zeros(2, np.int64)
    found = of(epsilon=0.3).ahead(Next(tables, np.array([2, 1]), table))
    mean = [0.1 * (1 + 2) + 0.8 * 4, 0.1 * (-1 + 0) + 0.8 * 3]
    want = {SARSA: [2, -1], ExpectedSARSA: mean, QLearning: [4, 3], DoubleQ: [6, -1]}[of]
    np.testing.assert_allclose(found, want)


@pytest.mark.parametrize("of", ALL)
def test_a_block_is_that_of_a_plain_loop(of):
    """The same random numbers, one run after the other, with numbers in place of arrays."""
    process = of(env="FrozenLake-v1", gamma=0.9, alpha=0.4, power=0.5, initial=0.3, runs=3, block=150)
    state = process.begin(7)
    (first, given), *_ = shards(state)
    got = dict(zip(PARTS, played(process, 7, 0, (first, given)), strict=True))
    mdp, limit, *_ = process.problem(7)
    chance, leads, pays = outcomes_of(mdp)
    q, visits = state["q"].copy(), state["visits"].copy()
    s, a, t = state["s"].tolist(), state["a"].tolist(), state["t"].tolist()
    rng, n = generator(7, 0, 0, 0), len(s)
    for _ in range(process.block):
        kinds = [int((chance[s[i], a[i]].cumsum() <= u).sum()) for i, u in enumerate(rng.random(n))]
        after, paid = ([int(x[s[i], a[i], kinds[i]]) for i in range(n)] for x in (leads, pays))
        there = [min(x, 15) for x in after]
        then = [
            int(chosen(q[i : i + 1, :, x], 0.1, Given(u))[0])
            for i, (x, u) in enumerate(zip(there, rng.random(n), strict=True))
        ]
        table = rng.integers(process.tables, size=n)
        for i in range(n):
            next_ = Next(q[i : i + 1, :, there[i]], np.array([then[i]]), table[i : i + 1])
            worth = 0.0 if after[i] == 16 else process.ahead(next_)[0]
            k = (i, table[i], s[i], a[i])
            visits[k] += 1
            q[k] += 0.4 / visits[k] ** 0.5 * (paid[i] + 0.9 * worth - q[k])
        begin = [int(place(mdp.start.cumsum()[None], np.array([u]))[0]) for u in rng.random(n)]
        first = rng.random(n)
        for i in range(n):
            t[i] += 1
            over = after[i] == 16 or t[i] == limit
            t[i] = 0 if over else t[i]
            s[i] = begin[i] if over else there[i]
            a[i] = int(chosen(q[i : i + 1, :, s[i]], 0.1, Given(first[i]))[0]) if over else then[i]
    np.testing.assert_allclose(got["q"], q, atol=1e-12)
    assert (
        (got["visits"] == visits).all() and got["s"].tolist() == s and got["a"].tolist() == a and got["t"].tolist() == t
    )


class Given:
    """A generator of one number that is known."""

    def __init__(self, u):
        self.u = u

    def random(self, n):
        return np.full(n, self.u)


def test_a_cut_episode_takes_the_next_value_and_an_ended_one_does_not():
    """One state, one action that never ends, reward 1: the value is 1 / (1 - gamma), though episodes are cut; an end is worth 0."""
    process = QLearning(env=f"{__name__}:loop", gamma=0.5, alpha=1.0, power=1.0, runs=4, block=3_000)
    assert run(process, 1)["q"].mean() == pytest.approx(2, rel=0.05)
    ends = QLearning(
        env=f"{__name__}:loop", env_options={"ends": 1.0}, gamma=0.5, alpha=1.0, power=1.0, runs=4, block=50
    )
    np.testing.assert_allclose(run(ends, 1)["q"], 1.0)


def loop(gamma, seed, ends=0.0):
    """A state that follows itself, or ends with this probability."""
    from ray_jobs.tabular.mdp import MDP

    return MDP(np.array([[[1 - ends]]]), np.ones((1, 1)), np.ones(1), gamma)


@pytest.mark.parametrize(("actions", "e"), [(2, 0.564190), (5, 1.162964), (10, 1.538753)])
def test_the_maximum_is_too_high_and_double_q_is_not(actions, e):
    """Estimates of m actions of mean mu, each with the deviation s: E max = mu + e_m s. False alarms: 1 in 10,000 each."""
    n, mu, s = 40_000, -0.1, 0.5
    q = np.random.default_rng(0).normal(mu, s, (n, 2, actions))
    zeros = np.zeros(n, np.int64)
    for of, want in ((QLearning, mu + e * s), (DoubleQ, mu)):
        found = of().ahead(Next(q, zeros, zeros))
        assert abs(found.mean() - want) < 3.9 * found.std() / math.sqrt(n)


def test_q_learning_finds_the_path_along_the_cliff():
    process = QLearning(runs=20)
    found = process.result(run(process, 8), 0, Here())
    assert found["episode_return"] == found["best_episode_return"] == -13
    assert found["value_error"] < 1e-6


@pytest.mark.parametrize("of", [SARSA, DoubleQ])
def test_the_bits_are_the_same_after_a_checkpoint_and_on_workers(of, ray_cluster):
    process = of(runs=600, block=20)
    whole, parted, spread = three_ways(process)
    for name in (*PARTS, "returns"):
        assert (whole[name] == parted[name]).all() and (whole[name] == spread[name]).all()


def test_as_a_user_meets_it(tmp_path, capsys):
    words = ["train", "q_cliff", "--runs", "10", "--steps", "2"]
    assert cli.main([*words, "--out", str(tmp_path / "run")]) == 0
    assert "best_start_value" in capsys.readouterr().out
    assert all((tmp_path / "run" / name).stat().st_size > 5_000 for name in ("value.png", "returns.png"))
    assert cli.main([*words, "--env", "CartPole-v1", "--out", str(tmp_path / "no")]) == 2
    said = capsys.readouterr().err
    assert "CartPole-v1" in said and said.count("\n") == 1
