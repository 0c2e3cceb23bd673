"""AlphaZero as a process: the loss and its steps, equal bits on any workers, what a run shows, and what is refused."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from ray_jobs.distributed.crew import Here
from ray_jobs.errors import UsageError
from ray_jobs.recipe.loading import recipe
from ray_jobs.recipe.process import generator
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.self_play import networks
from ray_jobs.self_play.alphazero import AlphaZero
from ray_jobs.self_play.games.in_a_row import CONNECT_4, TIC_TAC_TOE
from ray_jobs.self_play.learning import Averages, Positions, Steps, learn, losses, seen_through
from ray_jobs.self_play.networks import Evaluator, load, weights_of
from ray_jobs.train import inspect
from ray_jobs.train.launch import launch
from tests.ray_jobs.processes import run, three_ways

SMALL = AlphaZero(
    env="tictactoe", simulations=4, games=6, table=2, updates=2, batch=8, window=40, width=8, measure_every=2,
    eval_simulations=4, anchors=(3,), arena_openings=2, arena_moves=2,
)  # fmt: skip


def same(whole, found):
    """Assert that two states are equal bit for bit."""
    assert whole.keys() == found.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(found[name], value)


def batch(game, n, rng):
    """Made-up positions."""
    return Positions(
        rng.integers(0, 2, (n, game.planes, game.rows, game.columns)).astype(np.int8),
        rng.dirichlet(np.ones(game.moves), n).astype(np.float32),
        rng.choice([-1, 0, 1], n).astype(np.float32),
    )


@pytest.mark.parametrize("convolutions", [False, True])
def test_the_loss_is_equation_1(convolutions):
    net = networks.begin(CONNECT_4, 6, 1, convolutions, 0)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    x, pi, z = (torch.from_numpy(a).float() for a in batch(CONNECT_4, 5, np.random.default_rng(0)))
    found = losses(net, x, pi, z, 0.01)
    logits, v = net(x)
    p = torch.softmax(logits, 1)
    by_row = [(z[i] - v[i]) ** 2 - sum(pi[i, a] * p[i, a].log() for a in range(7)) for i in range(5)]
    theta = torch.cat([w.flatten() for w in net.parameters()])
    expected = torch.stack(by_row).mean() + 0.01 * theta @ theta
    torch.testing.assert_close(sum(found), expected)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_updates_are_those_of_torchs_optimisers(momentum):
    """Adam, or gradient descent with momentum, both with the decay in the loss; parted in two the updates are the same."""
    rng, positions = np.random.default_rng(0), batch(TIC_TAC_TOE, 30, np.random.default_rng(1))
    how, nets = Steps(8, 0.01, momentum, 1e-3, (2,)), [networks.begin(TIC_TAC_TOE, 6, 1, False, 0) for _ in range(2)]
    averages = Averages.begin(len(weights_of(nets[0]).parameters), momentum)
    for done in (0, 2):
        learn(nets[0], positions, TIC_TAC_TOE.symmetries, how, averages, done, 2, rng)
    rng, parameters = np.random.default_rng(0), nets[1].parameters()
    torchs = torch.optim.SGD(parameters, 0.01, momentum) if momentum else torch.optim.Adam(parameters, 0.01)
    for update in range(4):
        torchs.param_groups[0]["lr"] = 0.01 if update < 2 else 0.001
        rows = rng.integers(30, size=8)
        torchs.zero_grad()
        sum(losses(nets[1], *seen_through(TIC_TAC_TOE.symmetries, positions, rows, rng), 1e-3)).backward()
        torchs.step()
    ours, theirs = (weights_of(net).parameters for net in nets)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_position_and_its_policy_are_turned_together():
    """The policy is on the cells that have a stone of plane 0; it still is after any symmetry."""
    seen = np.zeros((4, 2, 3, 3), np.int8)
    for i in range(4):
        seen[i, 0].flat[[i, 2 * i]] = 1
    policy = seen[:, 0].reshape(4, 9).astype(np.float32)
    positions, shown = Positions(seen, policy, np.zeros(4, np.float32)), set()
    for seed in range(20):
        x, pi, _ = seen_through(TIC_TAC_TOE.symmetries, positions, np.arange(4), np.random.default_rng(seed))
        assert (x[:, 0].flatten(1) == pi).all()
        shown.add(tuple(pi[1].tolist()))
    assert len(shown) > 3


@pytest.mark.parametrize("convolutions", [False, True])
def test_weights_are_vectors_that_make_the_network_again(convolutions):
    one, two = (networks.begin(CONNECT_4, 6, 2, convolutions, seed) for seed in (0, 1))
    one(torch.randn(4, 2, 6, 7))  # changes the statistics of batch norms
    load(two, pickle.loads(pickle.dumps(weights_of(one))))
    states = CONNECT_4.begin(3)
    for a, b in zip(Evaluator(CONNECT_4, one)(states), Evaluator(CONNECT_4, two)(states), strict=True):
        assert (a == b).all()
    logits, value = Evaluator(CONNECT_4, networks.begin(CONNECT_4, 6, 2, convolutions, 5))(states)
    assert not logits.any() and not value.any()  # untrained, it knows nothing


def test_a_run_that_continues_has_the_same_bits_and_so_have_two_workers(ray_cluster):
    whole, parted, spread = three_ways(replace(SMALL, gate=0.4, gate_games=4))
    same(whole, parted)
    same(whole, spread)


class Scattered:
    """A crew of workers that get pickled shards in any order."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def map(self, function, shards):
        shards, function = list(shards), pickle.dumps(function)
        answers = {
            i: pickle.loads(function)(pickle.loads(pickle.dumps(shards[i]))) for i in self.rng.permutation(len(shards))
        }
        return [answers[i] for i in range(len(shards))]


def test_the_order_of_shards_changes_nothing_and_momentum_and_convolutions_are_state():
    process = replace(SMALL, momentum=0.9, convolutions=True, width=2, blocks=1)
    whole, found = run(process, 2), process.begin(0)
    for step in range(2):
        process.advance(found, step, 0, Scattered(step))
    same(whole, found)
    assert whole["weights_buffers"].any() and whole["average_first"].any() and not whole["average_second"].size


def test_a_gate_keeps_the_best_weights():
    closed, opened = (run(replace(SMALL, gate=gate, gate_games=4), 2) for gate in (1.0, 1e-9))
    assert (closed["best_parameters"] == SMALL.begin(0)["weights_parameters"]).all()
    assert (opened["best_parameters"] == opened["weights_parameters"]).all()
    assert (closed["weights_parameters"] != closed["best_parameters"]).any()


def test_the_window_holds_the_newest_positions():
    state, process = SMALL.begin(0), SMALL
    process.advance(state, 0, 0, Here())
    first = state["window_outcome"]
    process.advance(state, 1, 0, Here())
    kept = state["window_observations"], state["window_policy"], state["window_outcome"]
    assert {len(part) for part in kept} == {process.window} and len(first) > 20
    assert state["games"] == 12


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    small = {
        name: getattr(SMALL, name) for name in ("simulations", "games", "table", "updates", "width", "measure_every")
    }
    more = {"eval_simulations": 4, "anchors": (3,), "arena_openings": 2, "steps": 2}
    out = str(tmp_path_factory.mktemp("run") / "run")
    return launch(Spec("alphazero_tictactoe", small | more, 0, Where(address="local"), out))


def test_a_run_measures_what_the_claim_is_about_and_shows_it(trained):
    metrics = trained.result["metrics"]
    assert recipe("alphazero_tictactoe").claim.metric in metrics and metrics["games"] == 12
    assert metrics["elo_low"] <= metrics["elo"] <= metrics["elo_high"]
    assert {"elo.png", "strength.png", "game.png", "game.txt"} <= {p.name for p in trained.path.iterdir()}
    assert inspect.evaluate(str(trained)) == metrics


def test_sample_writes_games_and_a_picture(trained):
    picture = inspect.sample(str(trained), n=3, seed=1)
    games = (trained.path / "samples.txt").read_text().splitlines()
    assert picture.name == "samples.png" and len(games) == 3
    for line in games:
        *moves, result = line.split()
        states = TIC_TAC_TOE.begin(1)
        for move in moves:
            states = TIC_TAC_TOE.play(states, np.array([TIC_TAC_TOE.parse(move)]))
        assert TIC_TAC_TOE.over(states)[0] and result in ("1-0", "0-1", "1/2-1/2")
    with pytest.raises(
        UsageError, match=r"is a study: how its samples are drawn has no options but --n, --seed and --name\.$"
    ):
        inspect.sample(str(trained), guidance=2.0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"env": ""}, r"^Self-play needs a game, --env: take tictactoe, connect4"),
        ({"env": "chess"}, r"^There is no game chess"),
        ({"anchors": (50, 0)}, r"^--anchors are numbers of simulations from 1 on, such as \[50,200\], not 0\.$"),
        ({"arena_moves": 9}, r"^Openings of 9 random moves are too long"),
    ],
)
def test_settings_that_do_not_fit_get_one_sentence(settings, said):
    with pytest.raises(ValueError, match=said):
        replace(SMALL, **settings).begin(0)


def test_games_are_a_function_of_seed_round_and_table():
    a, b = (generator(0, 3, 2).random(4) for _ in range(2))
    assert (a == b).all()
    first, second = run(SMALL, 1, seed=1), run(SMALL, 1, seed=2)
    assert (
        len(first["window_outcome"]) != len(second["window_outcome"])
        or (first["window_policy"] != second["window_policy"]).any()
    )
