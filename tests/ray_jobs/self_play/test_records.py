"""Records of games: SGF there and back, against sgfmill where it is installed, lines of text, and diagrams."""

import numpy as np
import pytest

from ray_jobs.self_play import records, sgf
from ray_jobs.self_play.diagrams import diagrams, parts
from ray_jobs.self_play.games.go import Go
from ray_jobs.self_play.games.in_a_row import CONNECT_4, TIC_TAC_TOE
from ray_jobs.self_play.players import Record
from ray_jobs.self_play.search import at_random

ODD = "[a]\\b:c;(d)\nå 囲碁"


def moves_by_chance(game, seed=0):
    rng, states, moves = np.random.default_rng(seed), game.begin(1), []
    while not game.over(states)[0]:
        moves.append(int(at_random(game, states, rng)[0]))
        states = game.play(states, np.array(moves[-1:]))
    return tuple(moves)


@pytest.mark.parametrize("size", [2, 5, 9, 19, 25])
def test_a_game_is_read_as_it_was_written(size):
    rng = np.random.default_rng(size)
    game = sgf.Game(size, 6.5, tuple(rng.integers(0, size**2 + 1, 50).tolist()), ODD, "b]", "B+R")
    assert sgf.read(sgf.written(game)) == sgf.Game(size, 6.5, game.moves, ODD.replace("\n", " "), "b]", "B+R")


def test_sgfmill_reads_what_we_write_and_we_read_what_it_writes():
    other = pytest.importorskip("sgfmill.sgf", reason="sgfmill is not installed: pip install sgfmill")
    game = Go(9, 6.5)
    moves = moves_by_chance(game)
    ours = sgf.Game(9, 6.5, moves, ODD, "b]", "W+0.5")
    found = other.Sgf_game.from_string(sgf.written(ours))
    assert (found.get_size(), found.get_komi(), found.get_winner()) == (9, 6.5, "w")
    assert found.get_player_name("b") == ODD.replace("\n", " ")
    plays = [node.get_move() for node in found.get_main_sequence()[1:]]
    expected = [divmod(move, 9) if move < 81 else None for move in moves]
    assert plays == [("bw"[i % 2], p and (8 - p[0], p[1])) for i, p in enumerate(expected)]
    theirs = other.Sgf_game(size=9)
    theirs.get_root().set("KM", 6.5)
    theirs.get_root().set("PB", ODD)
    for play in plays:
        theirs.extend_main_sequence().set_move(*play)
    again = sgf.read(theirs.serialise().decode())
    assert (again.size, again.komi, again.moves, again.black) == (9, 6.5, moves, ODD)


def test_the_first_variation_is_read_with_comments_old_names_and_both_passes():
    text = """any words (;GaMe[1]SiZe[5]C[a (comment) with \\] and ;B[aa\\]]
      ;Black[aa](;White[ee]C[main];B[];W[tt](;B[bb])(;B[cc]))(;W[dd])) (;SZ[3])"""
    assert sgf.read(text).moves == (0, 24, 25, 25, 6)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no whole game"),
        ("hello", "holds no whole game"),
        ("(;SZ[9];B[aa]", "holds no whole game"),
        ("(;SZ[9]]", r"not an SGF file: '\]'"),
        ("(;GM[2])", "not of Go: its GM is 2"),
        ("(;SZ[9];B[jj])", "'jj' is no point of a board of 9 lines"),
        ("(;SZ[9];W[aa])", "Move 1 is of W"),
        ("(;SZ[9]AB[aa];W[bb])", r"set-up stones \(AB\)"),
        ("(;SZ[9:7])", "The SZ of this SGF file is no number: 9:7"),
        ("(;SZ[40])", "has 40 lines"),
        ("(;KM[nan])", "The KM of this SGF file is no number: nan"),
    ],
)
def test_a_file_that_is_not_a_game_gets_one_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        sgf.read(text)


@pytest.mark.parametrize("game", [TIC_TAC_TOE, CONNECT_4, Go(5, 0.5)], ids=lambda g: g.name)
def test_lines_of_moves_are_read_as_they_are_written(game):
    record = Record(moves_by_chance(game), -1)
    assert records.read(game, record.text(game)) == record
    with pytest.raises(ValueError, match="A game ends with 1-0, 1/2-1/2, 0-1, not"):
        records.read(game, record.text(game).rpartition(" ")[0])


def test_moves_that_cannot_be_are_named_with_the_legal_ones():
    with pytest.raises(
        ValueError, match=r"Move 2 cannot be: b2 is not legal here\. Legal are a3, b3, c3, a2, c2, a1, b1, c1\."
    ):
        records.read(TIC_TAC_TOE, "b2 b2 1-0")
    with pytest.raises(ValueError, match="Move 6, c1, comes after the end"):
        records.read(TIC_TAC_TOE, "a3 a2 b3 b2 c3 c1 1-0")
    with pytest.raises(ValueError, match=r"E5 is not legal here\. All moves are legal but E5\."):
        records.positions(Go(9), [Go(9).parse("E5")] * 2)


def test_files_hold_sgf_of_go_and_a_line_of_other_games():
    game = Go(5, 0.5)
    for given, result in (("", "B+24.5"), ("W+R", "W+R")):
        text = records.text(game, Record((12, 25, 25), 1), given)
        assert sgf.read(text) == sgf.Game(5, 0.5, (12, 25, 25), result=result)
    assert records.text(CONNECT_4, Record((3, 3), 0)) == "4 4 1/2-1/2\n"
    assert (records.suffix(game), records.suffix(CONNECT_4)) == (".sgf", ".txt")


def test_a_new_diagram_starts_where_a_point_is_played_again(tmp_path):
    game = Go(5, 0.5)
    ko = [game.parse(m) for m in ("B4", "C4", "A3", "D3", "B2", "C2", "pass", "B3", "C3", "pass", "pass")]
    again = [*ko[:9], game.parse("E5"), game.parse("E1"), game.parse("B3")]
    assert [(d.first, len(d.moves)) for d in parts(game, ko)] == [(1, 11)]
    found = parts(game, again)
    assert [(d.first, len(d.moves)) for d in found] == [(1, 11), (12, 1)]
    assert found[1].before[2].tolist() == [1, 0, 1, -1, 0]
    assert diagrams(game, again, tmp_path / "game.png").stat().st_size > 5_000
