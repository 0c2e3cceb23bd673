"""Evolution strategies: the estimate's mean and variance in closed form, ranks and ties, what travels, and equal bits however it runs."""

import functools
import os
import pickle
import signal
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from ray_jobs.distributed.crew import Here, OnRay
from ray_jobs.errors import UsageError
from ray_jobs.evolution import members
from ray_jobs.evolution.evolution_strategy import EvolutionStrategy, played
from ray_jobs.evolution.members import Scalars, Weights
from ray_jobs.evolution.networks import actions, begin, mirrored, outputs
from ray_jobs.evolution.noise import perturbation, size_of
from ray_jobs.evolution.shaping import SUMMED, adam, centred_ranks, estimate
from tests.ray_jobs.distributed.shards import pid
from tests.ray_jobs.rl.scripted import Count

SMALL = EvolutionStrategy(pairs=6, width=4, depth=1, limit=20, shard=2, eval_episodes=5, normalize=True)
SIZES, SIGMA, N = (2, 1), 0.3, 40_000
CURVES = np.diag([1.0, 2.0, 0.5])
TOP, AT = np.array([1.0, -1.0, 0.5]), np.array([0.2, 0.3, -0.1])


def fitness(x):
    """A quadratic, of points [*, 3]."""
    return 2.0 - np.einsum("...i,ij,...j->...", x - TOP, CURVES, x - TOP) / 2


@functools.cache
def directions(rank):
    return np.stack([perturbation(5, 0, pair, SIZES, rank) for pair in range(N)])


@pytest.mark.parametrize("rank", [0, 1])
def test_the_estimate_has_the_slope_as_its_mean_and_the_exact_variance(rank):
    """Of a quadratic the smoothed slope is the slope itself. The trace of one pair's covariance is (d + 1) |g|^2 for normals.

    Error rate of each comparison: 6e-5 (4 standard errors, three numbers).
    """
    slope = -CURVES @ (AT - TOP)
    e = directions(rank)
    both = np.stack([fitness(AT + SIGMA * e), fitness(AT - SIGMA * e)], 1)
    single = (both[:, :1] - both[:, 1:]) / (2 * SIGMA) * e
    np.testing.assert_allclose(estimate(both, e, SIGMA), single.mean(0), rtol=1e-10)
    error = single.std(0) / N**0.5
    assert (np.abs(single.mean(0) - slope) < 4 * error).all()
    if not rank:
        spread = ((single - slope) ** 2).sum(1)
        assert abs(spread.mean() - 4 * slope @ slope) < 4 * spread.std() / N**0.5


def test_one_sided_estimates_have_the_variance_of_the_closed_form():
    e, d = directions(0), 3
    slope, level = -CURVES @ (AT - TOP), fitness(AT)
    single = fitness(AT + SIGMA * e)[:, None] * e / SIGMA
    trace, squares = np.trace(CURVES), np.trace(CURVES @ CURVES)
    exact = level**2 * d + SIGMA**2 * (d + 2) * slope @ slope + SIGMA**4 / 4 * (d + 4) * (trace**2 + 2 * squares)
    exact = (exact - level * SIGMA**2 * (d + 2) * trace) / SIGMA**2 - slope @ slope
    spread = ((single - slope) ** 2).sum(1)
    assert abs(spread.mean() - exact) < 4 * spread.std() / N**0.5


def test_ranks_see_the_order_alone_and_ties_change_nothing():
    returns = np.random.default_rng(0).normal(size=(7, 2))
    ranks = centred_ranks(returns)
    assert (ranks == centred_ranks(np.exp(returns))).all() and sorted(ranks.ravel()) == [
        k / 13 - 0.5 for k in range(14)
    ]
    assert not centred_ranks(np.full((3, 2), 7.0)).any()
    tied = centred_ranks(np.array([[1.0, 2.0], [2.0, 5.0]]))
    np.testing.assert_allclose(tied, [[-0.5, 0.0], [0.0, 0.5]])


@pytest.mark.parametrize("shape", [True, False])
@pytest.mark.parametrize("returns", [np.full((6, 2), 500.0), np.arange(6.0)[:, None] + np.zeros((6, 2))])
def test_the_weights_stay_where_both_of_each_pair_return_the_same(shape, returns):
    """Nothing is known of any direction, even where pairs met easier and harder episodes; the decay alone would move them."""
    rule = replace(SMALL.rule(0), weight_decay=0.1, shape=shape)
    weights = Weights.begin(rule, normalize=False)
    before = weights.theta.copy()
    weights.advance(rule, returns, np.zeros(0))
    assert (weights.theta == before).all() and weights.generation == 1


def test_adam_is_torchs():
    import torch

    rng, theta = np.random.default_rng(0), np.ones(4)
    twin = torch.ones(4, dtype=torch.float64, requires_grad=True)
    optimizer, mean, square = torch.optim.Adam([twin], lr=0.1), np.zeros(4), np.zeros(4)
    for step in range(5):
        slope = rng.normal(size=4)
        adam(theta, mean, square, slope, 0.1, step)
        twin.grad = torch.from_numpy(-slope)
        optimizer.step()
    np.testing.assert_allclose(theta, twin.detach().numpy(), rtol=1e-7)


def test_many_perceptrons_compute_what_each_does():
    sizes = (3, 5, 2)
    many = np.stack([begin(s, sizes) + 0.1 * perturbation(0, 0, s, sizes) for s in range(4)])
    x = np.random.default_rng(0).normal(size=(4, 6, 3))
    found = outputs(many, x, sizes)
    for m in range(4):
        w1, b1, w2, b2 = np.split(many[m], [15, 20, 30])
        np.testing.assert_allclose(found[m], np.tanh(x[m] @ w1.reshape(3, 5) + b1) @ w2.reshape(5, 2) + b2)
    assert many.shape[1] == size_of(sizes)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_both_networks_of_a_pair_are_theta_plus_and_minus_sigma_e(rank):
    sizes, x = (3, 5, 2), np.random.default_rng(0).normal(size=(4, 6, 3))
    theta, e = begin(1, sizes), np.stack([perturbation(7, 2, pair, sizes, rank) for pair in range(3, 7)])
    for sign, network in zip((1, -1), mirrored(theta, 7, 2, range(3, 7), sizes, 0.3, rank), strict=True):
        np.testing.assert_allclose(network(x), outputs(theta + sign * 0.3 * e, x, sizes), rtol=1e-9, atol=1e-12)


def test_the_update_of_low_rank_is_that_of_the_written_out_directions():
    """With more pairs than one product sums, and a last product that is smaller."""
    sizes, pairs = (3, 5, 2), SUMMED // 3 * 2 + 7
    rule = replace(SMALL, rank=3).rule(4)
    rule, weights = replace(rule, sizes=sizes), Weights.begin(replace(rule, sizes=sizes), normalize=False)
    fitness = np.random.default_rng(0).normal(size=(pairs, 2))
    whole = estimate(fitness, (perturbation(4, 0, pair, sizes, 3) for pair in range(pairs)), rule.sigma)
    np.testing.assert_allclose(weights.slope(rule, fitness), whole, rtol=1e-9, atol=1e-12)


def test_actions_stay_within_their_space():
    space, out = gym.spaces.Box(-2.0, 6.0, (2,)), np.array([[-50.0, 50.0], [0.0, 0.0]])
    np.testing.assert_allclose(actions(out, space), [[-2, 6], [2, 2]])
    assert actions(out, gym.spaces.Discrete(2, start=3)).tolist() == [4, 3]


def trained(es, generations, crew, state=None, first=0):
    state = es.begin(0) if state is None else state
    for g in range(first, generations):
        metrics = es.advance(state, g, 0, crew)
    return state, metrics


def test_sixteen_bytes_a_pair_travel_whatever_the_size_of_the_network():
    def letter(es):
        """What a worker gets for a generation, as bytes."""
        state, metrics = trained(es, 2, Here())
        assert metrics["bytes_per_generation"] == 16 * es.pairs
        scalars = Scalars(1, state["returns"][1:], state["seen"][1:])
        return len(pickle.dumps(functools.partial(played, es, 0, 2, scalars)))

    plain = replace(SMALL, normalize=False, pairs=20)
    small, wide = letter(plain), letter(replace(plain, width=40))
    assert wide == small
    assert letter(replace(plain, pairs=30)) - small == 16 * 10


def test_a_newcomer_replays_the_returns_to_the_same_weights():
    state, _ = trained(SMALL, 5, Here())
    members._held.clear()
    last = Scalars(4, state["returns"][4:], state["seen"][4:])
    assert played(SMALL, 0, 5, last, 0) is None
    whole = Scalars(0, state["returns"], state["seen"])
    assert played(SMALL, 0, 5, whole, 0) is not None
    ((_, weights),) = members._held.items()
    assert weights.theta.tobytes() == state["theta"].tobytes() and weights.square.tobytes() == state["square"].tobytes()
    twin = SMALL.weights(state, 5)
    np.testing.assert_array_equal(weights.seen.total, twin.seen.total)


def test_a_process_that_computed_for_another_run_begins_again():
    """Here of the same networks, seed and rule, but other environments' seeds: nothing of it may be taken over."""
    whole, _ = trained(SMALL, 4, Here())
    half, _ = trained(SMALL, 3, Here())
    trained(replace(SMALL, limit=3), 2, Here())
    state, _ = trained(SMALL, 4, Here(), half, 3)
    np.testing.assert_array_equal(state["theta"], whole["theta"])
    np.testing.assert_array_equal(state["returns"], whole["returns"])


class Scattered:
    """A crew of processes in one: each has weights of its own, gets shards by chance, and may be replaced by a new one."""

    def __init__(self, workers, monkeypatch):
        self.rng, self.monkeypatch = np.random.default_rng(workers), monkeypatch
        self.held = [{} for _ in range(workers)]

    def map(self, function, shards):
        answers, function = {}, pickle.dumps(function)
        for i in self.rng.permutation(len(shards)):
            worker = self.rng.integers(len(self.held))
            if self.rng.random() < 0.1:
                self.held[worker] = {}
            self.monkeypatch.setattr(members, "_held", self.held[worker])
            answers[i] = pickle.loads(function)(shards[i])
        return [answers[i] for i in range(len(shards))]


@pytest.mark.parametrize(("workers", "rank"), [(1, 0), (2, 1), (8, 0), (8, 1)])
def test_any_number_of_workers_that_come_and_go_compute_the_same_bits(workers, rank, monkeypatch):
    es = replace(SMALL, shard=1, rank=rank)
    whole, _ = trained(es, 12, Here())
    found, _ = trained(es, 12, Scattered(workers, monkeypatch))
    same(whole, found)


def same(whole, found):
    """Assert that two states are equal bit for bit."""
    assert whole.keys() == found.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(found[name], value)


def test_a_run_that_continues_has_the_same_bits_and_so_have_two_workers(ray_cluster):
    whole, _ = trained(SMALL, 4, Here())
    half, _ = trained(SMALL, 2, Here())
    members._held.clear()
    with OnRay(2, 0) as crew:
        both, _ = trained(SMALL, 4, crew, {k: v.copy() if hasattr(v, "copy") else v for k, v in half.items()}, 2)
    same(whole, both)


@pytest.mark.fault
def test_a_worker_that_is_killed_is_replaced_by_one_that_replays_the_returns(ray_cluster):
    whole, _ = trained(SMALL, 6, Here())
    members._held.clear()
    with OnRay(2, 1) as crew:
        state, _ = trained(SMALL, 4, crew)
        os.kill(crew.map(pid, [0])[0], signal.SIGKILL)
        trained(SMALL, 6, crew, state, 4)
        assert crew.deaths == 1
    same(whole, state)


def test_workers_that_disagree_are_noticed(monkeypatch):
    state, _ = trained(SMALL, 1, Here())
    monkeypatch.setattr("ray_jobs.evolution.evolution_strategy.CHECKED", 1)
    ((_, weights),) = members._held.items()
    weights.replay(SMALL.rule(0), Scalars(0, state["returns"], state["seen"]), 1)
    weights.theta[0] += 1e-9
    with pytest.raises(UsageError, match=r"^After 1 generations workers have other weights than their driver"):
        SMALL.advance(state, 1, 0, Here())


def test_both_of_a_pair_meet_the_same_episodes():
    """Where the perturbation is next to nothing, both have the same return."""
    es = replace(SMALL, sigma=1e-12, limit=0, pairs=4)
    state, _ = trained(es, 1, Here())
    up, down = state["returns"][0].T
    assert (up == down).all() and len(set(up)) > 1


class Switches(Count):
    """An environment whose actions are several bits."""

    def __init__(self):
        super().__init__()
        self.action_space = gym.spaces.MultiBinary(3)


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ("CartPool-v1", "There is no environment 'CartPool-v1'"),
        (
            "tests.ray_jobs.evolution.test_evolution_strategies:Switches",
            "Evolution strategies need a Discrete or a Box action space",
        ),
    ],
)
def test_an_environment_that_does_not_fit_gets_one_sentence(env, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(SMALL, env=env).begin(0)
