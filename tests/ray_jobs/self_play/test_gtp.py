"""GTP: our engine as a process, our client against it, programs that die, hang or cheat, and GNU Go where it is installed."""

import io
import shlex
import shutil
import sys

import numpy as np
import pytest

from ray_jobs.errors import Failed, UsageError
from ray_jobs.self_play.games.go import Go
from ray_jobs.self_play.gtp.client import Engine, colour, gnu_go, versus
from ray_jobs.self_play.gtp.engine import serve
from ray_jobs.self_play.records import positions
from ray_jobs.self_play.search import at_random

GAME = Go(5, 0.5, 1)
OURS = """
import sys, numpy as np
from ray_jobs.self_play.games.go import Go
from ray_jobs.self_play.gtp.engine import serve
from ray_jobs.self_play.search import at_random
rng = np.random.default_rng(1)
serve(Go(5, 0.5, 1), lambda game, states: at_random(game, states, rng), "1.0", sys.stdin, sys.stdout)
"""
FAKE = """
import sys, time
for line in sys.stdin:
    command = line.split()[0]
    if command == "genmove":
        {act}
    print("=\\n")
    sys.stdout.flush()
    if command == "quit": break
"""


def program(text):
    return shlex.join([sys.executable, "-c", text])


def by_chance(seed=0):
    rng = np.random.default_rng(seed)
    return lambda game, states: at_random(game, states, rng)


def answers(*commands, game=GAME, choose=None):
    out = io.StringIO()
    serve(game, choose or by_chance(), "1.0", io.StringIO("".join(f"{c}\n" for c in commands)), out)
    return out.getvalue().split("\n\n")[:-1]


def test_the_engine_answers_as_the_protocol_wants():
    found = answers(
        "1 protocol_version", "", "# a comment", "name", "version # of us", "7 known_command genmove", "known_command x"
    )
    assert found == ["=1 2", "= Reprise", "= 1.0", "=7 true", "= false"]
    [every] = answers("list_commands", "quit", "name")[:1]
    must = "protocol_version name version known_command list_commands quit boardsize clear_board komi play genmove"
    assert {*must.split(), "final_score", "showboard", "undo"} == {*every.removeprefix("= ").split()}
    assert answers("quit", "name") == ["="]


def test_the_engine_plays_by_the_rules_and_says_which_moves_are_legal():
    found = answers(
        "boardsize 5", "play black C3", "play w c3", "play white J1", "play green A1", "play black", "showboard"
    )
    assert found[2].startswith("? illegal move: C3 is not legal here. Legal are A5, B5, C5, D5, E5, A4,")
    assert found[2].endswith(" E1, pass.")
    assert found[3] == "? illegal move: 'J1' is no move of Go: write a point from A1 to E5 (there is no I), or pass."
    assert found[4] == "? syntax error: a colour is black or white"
    assert found[5] == "? syntax error: another number of words is needed"
    assert " 3 . . X . ." in found[6]
    assert answers("boardsize 19") == ["? unacceptable size: the network plays on 5 lines"]
    assert answers("frobnicate") == ["? unknown command"]
    assert answers("undo", "komi x")[0] == "? cannot undo"


def test_scores_follow_the_komi_and_a_finished_game_gets_passes():
    found = answers("play b C3", "komi 3", "final_score", "komi 30", "final_score", "komi 25", "final_score")
    assert found[2::2] == ["= B+22", "= W+5", "= 0"]
    found = answers("play b pass", "play w pass", "genmove b", "undo", "undo", "genmove b")
    assert found[2] == "= pass"
    assert found[-1] != "= pass"


def test_a_colour_may_play_twice_in_a_row():
    found = answers("play b A1", "play b B2", "play b C3", "genmove b", "genmove b", "showboard", "final_score")
    assert found[-2].count("X") + sum(move == "= pass" for move in found[3:5]) == 5
    assert found[-1] == "= B+24.5"


def test_our_client_plays_whole_games_with_our_engine():
    with Engine(program(OURS), timeout=60) as engine:
        assert engine.ask("name") == "Reprise"
        for black, opening in ((True, ()), (False, (12, 7))):
            record, score = versus(engine, GAME, by_chance(), black=black, opening=opening)
            last = positions(GAME, record.moves)[-1]
            assert GAME.over(last)[0]
            assert record.moves[: len(opening)] == opening
            assert engine.ask("final_score") == score  # both boards are the same
        with pytest.raises(Failed, match=r"refuses 'boardsize 9': unacceptable size: the network plays on 5 lines\."):
            engine.begin(Go(9))
    assert engine.process.returncode == 0


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        ("sys.exit('out of joseki')", r"ended with code 1 at 'genmove white': out of joseki\."),
        ("time.sleep(600)", r"has not answered 'genmove white' within 0\.5 s: it hangs or is too slow\."),
        (
            "print('= C3\\n'); sys.stdout.flush(); continue",
            r"made an illegal move: C3 is not legal here\. Legal are A5, B5, .*, pass\.",
        ),
        (
            "print('= K12\\n'); sys.stdout.flush(); continue",
            r"played 'K12': 'K12' is no move of Go: write a point from A1 to E5",
        ),
        ("print('hello\\n\\n? I cannot\\n'); sys.stdout.flush(); continue", r"refuses 'genmove white': I cannot\."),
    ],
)
def test_a_program_that_dies_hangs_or_cheats_gets_one_sentence(act, sentence):
    text = FAKE.format(act=act)
    with Engine(program(text), timeout=60) as engine:
        engine.ask("name")  # it has started
        engine.timeout = 60 if "print('=" in act or "exit" in act else 0.5
        with pytest.raises(Failed, match=sentence):
            versus(engine, GAME, lambda game, states: np.array([12]), black=True)
    assert engine.process.poll() is not None


def test_a_program_may_resign():
    with Engine(program(FAKE.format(act="print('= resign\\n'); sys.stdout.flush(); continue")), timeout=60) as engine:
        record, score = versus(engine, GAME, by_chance(), black=True)
    assert (record.outcome, score, len(record.moves)) == (1, "B+R", 1)


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(UsageError, match=r"no-such-go cannot be started \(No such file or directory\): install it"):
        Engine("no-such-go --mode gtp")
    with pytest.raises(UsageError, match="is empty"):
        Engine(" ")
    with pytest.raises(UsageError, match=r"is no command line \(No closing quotation\): gnugo 'x"):
        Engine("gnugo 'x")


GNUGO = shutil.which("gnugo", path="/usr/games:/usr/bin:/usr/local/bin")


@pytest.mark.skipif(GNUGO is None, reason="gnugo is not installed: apt-get install gnugo")
def test_gnu_go_agrees_on_legal_moves_and_wins_against_chance():
    """Every position of a game by chance has the same legal moves; GNU Go takes all moves of ours, and its own are legal."""
    game, choose = Go(5, 7.5, 1), by_chance(3)
    with Engine(gnu_go(level=1).replace("gnugo", GNUGO, 1)) as engine:
        for black in (True, False):
            record, score = versus(engine, game, choose, black=black)
            assert game.over(positions(game, record.moves)[-1])[0]
            assert score[0] == ("W" if black else "B")
        engine.begin(game)
        states = game.begin(1)
        while not game.over(states)[0]:
            ours = {game.format(move) for move in np.flatnonzero(game.legal(states)[0, :-1])}
            assert {*engine.ask("all_legal", colour(states)).split()} == ours
            move = choose(game, states)
            engine.play(game, states, int(move[0]))
            states = game.play(states, move)
