"""The search against the policy that its visits must follow, against minimax, and every sign that can be wrong."""

import numpy as np
import pytest

from ray_jobs.self_play.games.go import Go
from ray_jobs.self_play.games.in_a_row import CONNECT_4, TIC_TAC_TOE
from ray_jobs.self_play.search import Search, Uniform, draw, puct, search, softmax
from ray_jobs.self_play.strength import exact
from ray_jobs.self_play.table import Manner, dirichlet, play

T = TIC_TAC_TOE
SIMULATIONS = 2_000
"""With 800, two of the 627 positions still have another move."""


def after(game, *moves):
    """The position after moves, as players write them."""
    states = game.begin(1)
    for move in moves:
        states = game.play(states, np.array([game.parse(move)]))
    return states


def regularised(q, prior, weight):
    """The policy y = weight P / (alpha - q) that maximises q'y - weight KL(P || y), by bisection over alpha.

    Source: Grill et al. 2020, arXiv:2007.12509, equations 6 and 7.
    """
    low, high = (q + weight * prior).max(), q.max() + weight
    for _ in range(200):
        alpha = (low + high) / 2
        low, high = (alpha, high) if (weight * prior / (alpha - q)).sum() > 1 else (low, alpha)
    return weight * prior / (alpha - q)


def test_visits_follow_the_regularised_policy():
    """With fixed Q the visits (1 + N) / (A + sum N) stay within 2 (A - 1) / (A + sum N) of the solution (measured: 1.4)."""
    rng, how = np.random.default_rng(0), Search(0)
    for _ in range(100):
        a, n = int(rng.integers(2, 12)), int(rng.integers(20, 400))
        q, prior, visits = rng.uniform(-1, 1, a), rng.dirichlet(np.ones(a)), np.zeros(a)
        for _ in range(n):
            visits[puct(q, visits, prior, how).argmax()] += 1
        rate = np.log((1 + n + how.c_base) / how.c_base) + how.c_init
        wanted = regularised(q, prior, rate * n**0.5 / (a + n))
        assert np.abs((1 + visits) / (a + n) - wanted).max() <= 2 * (a - 1) / (a + n)


def test_without_knowledge_the_search_finds_a_best_move_of_every_position():
    """Of every position of tic-tac-toe that is not over, one for each class of symmetric ones."""
    states, values = exact.solve(T)
    seen = np.sort(np.stack([states.cells[:, s.cells] for s in T.symmetries]) @ 3 ** np.arange(9), 0)[0]
    rows = np.unique(seen, return_index=True)[1]
    rows = rows[~T.over(states[rows])]
    assert len(rows) == 627
    move = search(T, states[rows], Uniform(T), Search(SIMULATIONS)).visits.argmax(1)
    known = dict(zip(exact.keys(states), values.tolist(), strict=True))
    found = np.array([-known[key] for key in exact.keys(T.play(states[rows], move))])
    assert (found == values[rows]).all()


@pytest.mark.parametrize(
    ("moves", "best"),
    [(("a1", "a3", "b1", "b3"), "c1"), (("a1", "b2", "a3", "a2", "c1"), "c2")],
    ids=["the first player wins", "the second player wins"],
)
def test_a_win_in_one_is_worth_1_to_whoever_is_to_move(moves, best):
    found = search(T, after(T, *moves), Uniform(T), Search(200))
    assert T.format(int(found.visits[0].argmax())) == best
    assert found.value[0] > 0.9
    before = search(T, after(T, *moves[:-1]), Uniform(T), Search(200))
    assert before.value[0] < found.value[0]


def test_a_lost_position_is_worth_minus_1():
    """Two threats at once: X holds both diagonals' ends."""
    assert search(T, after(T, "a1", "b2", "c3", "a3", "c1"), Uniform(T), Search(400)).value[0] < -0.7


def test_a_pass_changes_whose_value_it_is():
    """On 2 x 2 with a komi of 1/2, whoever passes second on an empty board ends a game that White wins."""
    game = Go(2, 0.5)
    black_passed = game.play(game.begin(1), np.array([4]))
    assert search(game, black_passed, Uniform(game), Search(60)).value[0] > 0.5
    white_passed = game.play(
        game.play(black_passed, np.array([0])), np.array([4])
    )  # Black has a stone: a second pass wins
    assert search(game, white_passed, Uniform(game), Search(60)).value[0] > 0.5


def test_the_network_never_judges_a_finished_game():
    def evaluate(states):
        value = np.where(T.over(states), np.nan, 0.0)
        return np.zeros((len(states), 9)), value

    found = search(T, after(T, "a1", "b2", "a3", "a2", "c1"), evaluate, Search(300))
    assert np.isfinite(found.value).all() and found.visits.sum() == 300


def test_the_first_simulation_follows_the_prior():
    logits = np.zeros((1, 9))
    logits[0, 5] = 1
    found = search(T, T.begin(1), lambda states: (np.repeat(logits, len(states), 0), np.zeros(len(states))), Search(1))
    assert found.visits[0].argmax() == 5


def test_values_of_leaves_are_seen_by_the_player_to_move_there():
    """An evaluation that finds every position won for the player to move makes every move look lost."""
    found = search(T, T.begin(1), lambda states: (np.zeros((len(states), 9)), np.ones(len(states))), Search(9))
    assert found.value[0] == pytest.approx((1 - 9) / 10)


@pytest.mark.parametrize("game", [TIC_TAC_TOE, CONNECT_4], ids=lambda g: g.name)
def test_together_positions_are_searched_as_each_is_alone(game):
    rng, states = np.random.default_rng(0), game.begin(6)
    for n in range(6):
        rows = np.arange(n, 6)
        states.put(rows, game.play(states[rows], draw(game.legal(states[rows]).astype(float), rng)))
    states = states[~game.over(states)]
    noise = rng.dirichlet(np.ones(game.moves), len(states)) * game.legal(states)
    together = search(game, states, Uniform(game), Search(60), noise)
    assert (together.visits.sum(1) == 60).all() and not together.visits[~game.legal(states)].any()
    for i in range(len(states)):
        alone = search(game, states[[i]], Uniform(game), Search(60), noise[[i]])
        assert (alone.visits[0] == together.visits[i]).all() and alone.value[0] == together.value[i]


def test_noise_is_on_legal_moves_alone_and_renewed():
    legal = np.array([[True, False, True, True], [False, True, False, False]])
    rng = np.random.default_rng(0)
    one, two = dirichlet(legal, 1.2, rng), dirichlet(legal, 1.2, rng)
    for noise in (one, two):
        np.testing.assert_allclose(noise.sum(1), 1)
        assert not noise[~legal].any()
    assert (one[0] != two[0])[legal[0]].all() and one[1, 1] == 1
    assert dirichlet(legal, 0.0, rng) is None
    draws = np.stack([dirichlet(legal[:1], 1.2, rng)[0, 0] for _ in range(4000)])
    exact_variance = (1 / 3) * (2 / 3) / (3 * 1.2 + 1)
    assert draws.var() == pytest.approx(exact_variance, rel=0.1)  # 4 standard errors are 9 %


def test_illegal_moves_have_no_prior():
    legal = np.array([[True, False, True], [False, False, False]])
    found = softmax(np.array([[0.0, 50.0, 0.0], [0.0, 0.0, 0.0]]), legal)
    np.testing.assert_array_equal(found, [[0.5, 0, 0.5], [0, 0, 0]])


def test_outcomes_of_learned_positions_are_those_of_the_player_to_move():
    how = Manner(Search(20), temperature_moves=9, noise=1.2, openings=2)
    found = play(T, Uniform(T), 40, how, np.random.default_rng(0))
    ends = np.cumsum(np.bincount(game_of(found), minlength=40)) - 1
    last = found.positions.outcome[ends]
    won = found.outcome != 0
    assert (last[won] == 1).all() and (last[~won] == 0).all()  # who moves last has won
    assert (found.outcome == np.where(won, np.where(found.lengths % 2 == 1, 1, -1), 0)).all()
    stones = found.positions.observations.sum((1, 2, 3))
    follows = np.flatnonzero(np.diff(game_of(found)) == 0)
    assert (found.positions.outcome[follows] == -found.positions.outcome[follows + 1]).all()
    assert (stones[follows] + 1 == stones[follows + 1]).all()  # in the order of moves
    assert set(stones[np.r_[0, ends[:-1] + 1]]) == {0, 1, 2}  # random openings are not learned from
    np.testing.assert_allclose(found.positions.policy.sum(1), 1, rtol=1e-6)


def game_of(found):
    """The game of each learned position: stones start again from few."""
    stones = found.positions.observations.sum((1, 2, 3))
    return np.r_[0, np.cumsum(np.diff(stones) < 0)]
