"""Tic-tac-toe and connect-4: what is known of their positions, two implementations of connect-4, symmetries, and moves in text."""

import numpy as np
import pytest

from ray_jobs.self_play.games.in_a_row import CONNECT_4, TIC_TAC_TOE, Boards
from ray_jobs.self_play.games.named import named
from ray_jobs.self_play.search import at_random, playouts
from ray_jobs.self_play.strength import connect4, exact

GAMES = pytest.mark.parametrize("game", [TIC_TAC_TOE, CONNECT_4], ids=lambda g: g.name)


def test_tic_tac_toe_has_5478_positions_and_is_drawn():
    states, values = exact.solve(TIC_TAC_TOE)
    assert len(states) == 5478 and values[0] == 0
    assert len(set(exact.keys(states))) == 5478


def test_random_games_of_tic_tac_toe_end_as_often_as_is_known():
    """First player 58.492 %, second 28.810 %, drawn 12.698 %. Error rate: 2e-4 (three comparisons at 4 standard errors)."""
    n = 20_000
    _, value = playouts(TIC_TAC_TOE, np.random.default_rng(0))(TIC_TAC_TOE.begin(n))
    for outcome, share in ((1, 0.58492), (-1, 0.28810), (0, 0.12698)):
        assert abs((value == outcome).mean() - share) < 4 * (share * (1 - share) / n) ** 0.5


def test_connect_4_on_arrays_and_on_bitboards_is_one_game():
    rng, boards = np.random.default_rng(0), [(0, 0)] * 200
    states, over = CONNECT_4.begin(200), np.zeros(200, bool)
    for _ in range(42):
        legal, moves = CONNECT_4.legal(states), np.zeros(200, np.int64)
        moves[~over] = at_random(CONNECT_4, states[~over], rng)
        states.put(~over, CONNECT_4.play(states[~over], moves[~over]))
        for i in np.flatnonzero(~over):
            mine, full = boards[i]
            cell = connect4.free(full) & connect4.column(int(moves[i]))
            assert legal[i].tolist() == [bool(connect4.free(full) & connect4.column(c)) for c in range(7)]
            won = bool(connect4.wins(mine, full) & cell)
            boards[i] = connect4.after(mine, full, int(moves[i]))
            assert CONNECT_4.outcome(states[[i]])[0] == -won
            over[i] = won or boards[i][1] == connect4.BOARD
        assert (CONNECT_4.over(states) == over).all()
    assert over.all()


@GAMES
def test_a_symmetry_leaves_the_rules_as_they_are(game):
    rng = np.random.default_rng(0)
    for _ in range(20):
        states = game.begin(1)
        for _ in range(rng.integers(0, 5)):
            states = game.play(states, at_random(game, states, rng))
        assert len(game.symmetries) == (8 if game is TIC_TAC_TOE else 2)
        for n, (cells, moves) in enumerate(game.symmetries):
            twin = Boards(states.cells[:, cells])
            assert n or (twin.cells == states.cells).all()
            assert (game.legal(twin)[0] == game.legal(states)[0, moves]).all()
            for move in np.flatnonzero(game.legal(twin)[0]):
                ours, theirs = game.play(twin, np.array([move])), game.play(states, moves[[move]])
                assert (ours.cells == theirs.cells[:, cells]).all()


@GAMES
def test_stones_and_observations_show_whose_they_are(game):
    one = game.play(game.begin(1), np.array([2]))
    two = game.play(one, np.array([3]))
    assert (game.stones(one).sum(), game.stones(two).sum()) == (1, 0)
    at = np.argwhere(game.stones(one)[0] == 1)[0]
    assert game.stones(two)[0][tuple(at)] == 1
    assert game.observe(one)[0, 1][tuple(at)] == game.observe(two)[0, 0][tuple(at)] == 1
    assert game.drawing(two).count("X") == game.drawing(two).count("O") == 1


@GAMES
def test_moves_are_read_as_they_are_written(game):
    assert [game.parse(game.format(m)) for m in range(game.moves)] == list(range(game.moves))


@pytest.mark.parametrize(
    ("game", "text", "said"),
    [
        (TIC_TAC_TOE, "d1", "'d1' is no move of tictactoe: write a cell from a1 to c3."),
        (CONNECT_4, "8", "'8' is no move of connect4: write a column from 1 to 7."),
    ],
)
def test_a_text_that_is_no_move_is_refused_in_one_sentence(game, text, said):
    with pytest.raises(ValueError, match=r"is no move of") as error:
        game.parse(text)
    assert str(error.value) == said


def test_cells_are_named_from_the_bottom_left():
    assert [TIC_TAC_TOE.format(m) for m in (0, 2, 6, 8)] == ["a3", "c3", "a1", "c1"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", r"^Self-play needs a game, --env: take tictactoe, connect4"),
        ("chess", r"^There is no game chess: take tictactoe, connect4"),
        ("builtins:dict", r"^What builtins:dict returns is no game, it has no 'moves'"),
        ("nowhere:game", r"^There is no game nowhere:game \(No module named 'nowhere'\): take"),
    ],
)
def test_a_game_that_is_not_there_is_refused_in_one_sentence(name, said):
    with pytest.raises(ValueError, match=said):
        named(name)
