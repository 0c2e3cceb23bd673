"""Losing lines, the solver and its positions, matches and ratings, each against an answer that is known."""

import functools

import numpy as np
import pytest

from ray_jobs.distributed.crew import Here
from ray_jobs.self_play.games.in_a_row import CONNECT_4, TIC_TAC_TOE
from ray_jobs.self_play.players import Player, Record, recorded, without_network
from ray_jobs.self_play.search import Search, Uniform
from ray_jobs.self_play.strength import exact, solved
from ray_jobs.self_play.strength.arena import Arena, match, openings
from ray_jobs.self_play.strength.connect4 import BOARD, CELLS, WIDTH, Solver, after, board, column, free, wins
from ray_jobs.self_play.strength.elo import against, expected, rated, ratings
from ray_jobs.self_play.strength.measures import measure_of

T = TIC_TAC_TOE


@functools.cache
def best_moves():
    """A best move of each position of tic-tac-toe, by its bytes."""
    states, values = exact.solve(T)
    known, found = dict(zip(exact.keys(states), values.tolist(), strict=True)), {}
    running = states[~T.over(states)]
    after_, parents = exact.successors(T, running)
    moves = np.nonzero(T.legal(running))[1]
    keys = exact.keys(running)
    for key, parent, move in zip(exact.keys(after_), parents, moves, strict=True):
        if -known[key] == known[keys[parent]]:
            found[keys[parent]] = int(move)
    return found


def perfect(states):
    return np.array([best_moves()[key] for key in exact.keys(states)])


def lowest(states):
    return T.legal(states).argmax(1)


def lost_by_hand(board_, mine, first):
    """Lines that the player who takes the lowest free cell loses, position by position."""
    lines = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]
    for line in lines:
        if board_[line[0]] and len({board_[c] for c in line}) == 1:
            return int(board_[line[0]] == 2)
    empty = [c for c in range(9) if not board_[c]]
    total = 0
    for cell in empty[:1] if mine else empty:
        after_ = list(board_)
        after_[cell] = 1 if mine else 2
        total += lost_by_hand(after_, not mine, first)
    return total


def test_a_perfect_player_has_no_losing_line_and_a_simple_one_as_many_as_counted_by_hand():
    assert exact.losing_lines(T, perfect) == 0
    by_hand = sum(lost_by_hand([0] * 9, mine, mine) for mine in (True, False))
    assert by_hand > 0 and exact.losing_lines(T, lowest) == by_hand
    measure, player = measure_of(T), without_network(T, 1)  # one simulation visits the first legal move
    assert measure.name == "losing_lines" and sum(measure.counted(player, s) for s in measure.shards) == by_hand


def minimax(mine, full):
    """The score of a position by all its lines."""

    @functools.cache
    def go(mine, full):
        left = CELLS - full.bit_count()
        cells = [cell for c in range(WIDTH) if (cell := free(full) & column(c))]
        scores = [(left + 1) // 2 if wins(mine, full) & cell else -go(full ^ mine, full | cell) for cell in cells]
        return max(scores, default=0)

    return go(mine, full)


def unfinished(stones, rng):
    """A position with so many stones, after random moves that do not win."""
    mine = full = 0
    while full.bit_count() < stones:
        cells = free(full) & ~wins(mine, full)
        mine, full = (
            after(mine, full, int(rng.choice([c for c in range(WIDTH) if cells & column(c)]))) if cells else (0, 0)
        )
    return mine, full


def test_the_solver_has_minimaxs_scores_and_values():
    rng, solver, seen = np.random.default_rng(0), Solver(), set()
    for stones in [31, 32, 33, 34, 35, 36, 38, 40] * 8:
        mine, full = unfinished(stones, rng)
        exact_ = minimax(mine, full)
        assert solver.score(mine, full) == Solver().score(mine, full) == exact_
        assert solver.value(mine, full) == np.sign(exact_)
        seen.add(int(np.sign(exact_)))
        for c, value in enumerate(solver.values(mine, full)):
            cell = free(full) & column(c)
            assert (value is None) == (not cell)
            if cell and not wins(mine, full) & cell and full | cell != BOARD:
                assert value == -np.sign(minimax(*after(mine, full, c)))
    assert seen == {-1, 0, 1}


def test_the_positions_of_the_package_are_solved():
    """Of the positions with most stones some are solved again; all are as the module says."""
    lines = [line.split() for line in solved.FILE.read_text().splitlines()]
    assert len(lines) == len(solved.solved().states) == solved.POSITIONS == len({moves for moves, _ in lines})
    for moves, signs in lines:
        mine, full = board([int(c) - 1 for c in moves])
        assert not wins(mine, full) & free(full) and solved.FEWEST <= len(moves) <= solved.MOST
        assert [s == "." for s in signs] == [not free(full) & column(c) for c in range(WIDTH)]
        assert len(set(signs) - {"."}) > 1
    for moves, signs in [line for line in lines if len(line[0]) == solved.MOST][:20]:
        values = Solver().values(*board([int(c) - 1 for c in moves]))
        assert "".join(solved.SIGNS[v] for v in values) == signs


def test_value_kept_is_the_share_of_best_moves():
    states, values = solved.solved()
    rows = slice(0, 100)

    def evaluate(best):
        """Logits that are certain of a best or of a worst move."""
        shown = np.where(values == solved.FULL, -5 if best else 5, values)
        known = {key: (9.0 if best else -9.0) * row for key, row in zip(exact.keys(states), shown, strict=True)}
        return lambda s: (np.array([known.get(k, np.zeros(7)) for k in exact.keys(s)]), np.zeros(len(s)))

    assert solved.kept(Player(evaluate(True), Search(1)), rows) == 100
    assert solved.kept(Player(evaluate(False), Search(1)), rows) == 0


def test_ratings_are_recovered_from_expected_scores():
    true = np.array([0.0, 120.0, 400.0, 700.0])
    games = 1e9 * (1 - np.eye(4))
    points = games * expected(true[:, None] - true)
    np.testing.assert_allclose(ratings(points, games), true, atol=1e-3)
    np.testing.assert_allclose(ratings(np.stack([points] * 3), np.stack([games] * 3)), np.stack([true] * 3), atol=1e-3)
    np.testing.assert_allclose(against(1e9 * expected(250 - true), np.full(4, 1e9), true), 250, atol=1e-3)


def test_a_player_who_wins_all_has_a_finite_rating_and_intervals_hold_the_rating():
    ladder = np.full((2, 2, 8, 2), 0.5)
    rating, anchors = rated(ladder, np.ones((2, 8, 2)), np.random.default_rng(0))
    assert np.isfinite(rating.elo) and rating.low <= rating.elo <= rating.high and anchors[0] == 0
    points = np.random.default_rng(1).choice([0, 0.5, 1], (2, 30, 2))
    rating, _ = rated(np.full((2, 2, 30, 2), 0.5), points, np.random.default_rng(0))
    assert rating.low < rating.elo < rating.high


def test_two_colours_from_the_same_openings():
    """A player against itself scores one half in all; a search beats a random player; both games of an opening start there."""
    rng = np.random.default_rng(0)
    starts = openings(T, 12, 2, rng)
    assert ((starts.cells != 0).sum(1) == 2).all() and len(set(exact.keys(starts))) > 4
    one = Player(Uniform(T), Search(60))
    points = match(T, starts, one, one, rng)
    assert (points[:, 0] == 1 - points[:, 1]).all()
    assert match(T, starts, one, without_network(T, 0), rng).mean() > 0.7
    with pytest.raises(
        ValueError, match=r"^Openings of 9 random moves are too long: games of tictactoe are over by then"
    ):
        openings(T, 1, 9, rng)


def test_the_ladder_sees_each_pair_from_both_sides():
    arena = Arena(T, (4, 40), 5, 2, seed=3)
    ladder = arena.ladder(Here())
    assert ladder.shape == (3, 3, 5, 2)
    for i in range(3):
        for j in range(3):
            if i != j:
                np.testing.assert_array_equal(ladder[i, j], 1 - ladder[j, i][:, ::-1])
    np.testing.assert_array_equal(arena.points(without_network(T, 40), Here())[1], ladder[2, 1])


def test_records_can_be_played_again():
    for game in (T, CONNECT_4):
        for record in recorded(game, without_network(game, 20), 4, 3, np.random.default_rng(0)):
            states = game.begin(1)
            for move in record.moves:
                assert not game.over(states)[0] and game.legal(states)[0, move]
                states = game.play(states, np.array([move]))
            assert game.over(states)[0]
            assert record.outcome == game.outcome(states)[0] * (1 if len(record.moves) % 2 == 0 else -1)
    assert Record((4, 0), -1).text(T) == "b2 a3 0-1"
