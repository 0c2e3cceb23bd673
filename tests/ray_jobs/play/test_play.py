"""`reprise play`: a person at the keyboard, a Go interface, and a Go program, against networks that have hardly trained."""

import io
import os
import pty
import select
import shlex
import subprocess
import sys

import pytest

from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.self_play import sgf
from ray_jobs.train.launch import launch
from tests.ray_jobs.command import ENV, here

TINY = {
    "steps": 1, "simulations": 2, "games": 2, "table": 2, "updates": 1, "batch": 4, "window": 10, "width": 4, "blocks": 0,
    "measure_every": 0, "eval_simulations": 2, "arena_openings": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("played")
    games = {"tictactoe": "tictactoe", "go": "go3-0.5-1"}
    return {
        name: launch(Spec("alphazero", {**TINY, "env": env}, 0, Where(), str(folder / name))).path
        for name, env in games.items()
    }


@pytest.fixture
def typed(monkeypatch):
    """Runs `reprise play` with lines typed into it: what it printed."""

    def play(lines, *words, code=0):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return here("play", *words, code=code)

    return play


def test_a_person_plays_to_the_end_takes_back_and_keeps_the_record(runs, typed, tmp_path):
    every = [f"{column}{row}" for row in "123" for column in "abc"]
    shown = typed(
        ["help", "", "undo", "b9", "b2", "b2", "undo", "moves", *every],
        runs["tictactoe"],
        "--record",
        tmp_path / "g.txt",
    )
    assert "tictactoe: you have X and move first." in shown
    assert "take back your last move" in shown
    assert "There is no move of yours to take back." in shown
    assert "'b9' is no move. All moves are legal. 'help' lists more." in shown
    assert "b2 is not legal here. Legal are " in shown
    assert shown.count("3 . . .\n2 . . .\n1 . . .") == 2  # at the start and after the undo
    assert any(end in shown for end in ("You have won.", "I have won.", "A draw."))
    assert (tmp_path / "g.txt").read_text().split()[-1] in ("1-0", "0-1", "1/2-1/2")


def test_leaving_and_resigning_are_polite(runs, typed, tmp_path):
    assert typed([], runs["tictactoe"]).endswith("You have left the game.\n")
    assert typed(["quit"], runs["tictactoe"], "--first", "it").endswith("You have left the game.\n")
    shown = typed(["b2", "resign"], runs["go"], "--first", "it", "--record", tmp_path / "g.sgf")
    assert "go3-0.5-1: you have White (O) and move second." in shown
    assert "You have resigned: I have won." in shown
    found = sgf.read((tmp_path / "g.sgf").read_text())
    assert (found.size, found.result, len(found.moves)) == (3, "B+R", 3)
    assert (found.black, found.white) == ("Reprise", "a person")


def test_a_game_of_go_ends_by_passes_with_its_score(runs, typed):
    shown = typed(["pass"] * 18, runs["go"], "--simulations", "0", "--seed", "3")
    assert "I play " in shown
    assert any(end in shown for end in ("You have won (B+", "I have won (W+"))


def test_ctrl_c_in_a_terminal_leaves_the_game(runs):
    """The real program in a terminal of its own: a prompt, a move that is not legal, and the key."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "ray_jobs.cli", "play", str(runs["tictactoe"])]
    program = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env=ENV, start_new_session=True, preexec_fn=terminal
    )
    os.close(its)
    seen = until(ours, b"Your move: ")
    os.write(ours, b"z1\n")
    seen += until(ours, b"Your move: ")
    assert b"'z1' is no move. All moves are legal." in seen
    os.write(ours, b"\x03")
    assert b"You have left the game." in until(ours, b"game.")
    assert program.wait(60) == 0
    os.close(ours)


def terminal():
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def until(terminal, end):
    seen = b""
    while end not in seen:
        assert select.select([terminal], [], [], 60)[0], seen
        seen += os.read(terminal, 4096)
    return seen


def test_a_go_interface_plays_over_gtp(runs, typed):
    shown = typed(
        ["name", "boardsize 3", "komi 0.5", "play b B2", "genmove w", "final_score", "quit"], runs["go"], "--gtp"
    )
    assert shown.startswith("= Reprise\n\n=\n\n=\n\n=\n\n= ")
    assert "reprise: --gtp is for Go, and" in typed([], runs["tictactoe"], "--gtp", code=2)


def test_a_go_program_plays_both_colours(runs, typed, tmp_path):
    passes = tmp_path / "passes.py"
    passes.write_text(
        "import sys\nfor line in sys.stdin: print('= pass' if 'genmove' in line else '=', end='\\n\\n', flush=True)"
    )
    command = shlex.join([sys.executable, str(passes)])
    shown = typed(
        [], runs["go"], "--against", command, "--games", 2, "--record", tmp_path / "games.sgf", "--simulations", 0
    )
    assert "game 1: Black, " in shown and "game 2: White, " in shown
    assert "of 2 points against python" in shown
    found = (tmp_path / "games.sgf").read_text()
    assert 0 < found.index("PB[Reprise]PW[python") < found.index("PW[Reprise]")
    stops = shlex.join([sys.executable, "-c", "input()"])
    assert "ended with code 0 at 'boardsize 3'" in typed([], runs["go"], "--against", stops, code=1)


def test_samples_of_go_are_sgf_and_diagrams(runs):
    here("sample", runs["go"], "--n", 2, "--name", "two")
    assert (runs["go"] / "two.sgf").read_text().count("(;FF[4]GM[1]") == 2
    assert (runs["go"] / "two.png").exists() and not (runs["go"] / "two.txt").exists()


def test_what_cannot_be_played_gets_one_sentence(runs, typed, tmp_path):
    other = launch(Spec("dp_frozenlake", {"steps": 2}, 0, Where(), str(tmp_path / "other"))).path
    assert "has nobody to play against: dp_frozenlake does not learn a game by self-play." in typed([], other, code=2)
    assert "--simulations must be at least 0, not -1." in typed([], runs["go"], "--simulations", -1, code=2)
    assert "--games and --timeout must be above 0" in typed([], runs["go"], "--games", 0, code=2)
    assert "give one of both" in typed([], runs["go"], "--gtp", "--against", "x", code=2)
