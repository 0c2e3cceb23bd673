"""Games as lists of moves: replayed, checked, and kept as files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ray_jobs.self_play import sgf
from ray_jobs.self_play.games.game import Game, S
from ray_jobs.self_play.games.go import Go
from ray_jobs.self_play.players import Record

SHOWN = 40
"""Moves that a sentence lists."""
RESULTS = {"1-0": 1, "1/2-1/2": 0, "0-1": -1}


def positions(game: Game[S], moves: Sequence[int]) -> list[S]:
    """The first position, and the one after each move, each of a single game.

    Raises:
        ValueError: a move is not legal, or comes after the end; one sentence.
    """
    found = [game.begin(1)]
    for number, move in enumerate(moves, 1):
        if game.over(found[-1])[0]:
            raise ValueError(f"Move {number}, {game.format(move)}, comes after the end of the game.")
        if not game.legal(found[-1])[0, move]:
            raise ValueError(f"Move {number} cannot be: {illegal(game, found[-1], move)}")
        found.append(game.play(found[-1], np.array([move])))
    return found


def illegal(game: Game[S], states: S, move: int) -> str:
    """The sentence about a move that is not legal in the first of the positions, with those that are."""
    return f"{game.format(move)} is not legal here. {allowed(game, states)}"


def allowed(game: Game[S], states: S) -> str:
    """The sentence that lists the legal moves of the first of the positions, or all others where those are fewer."""
    legal = game.legal(states)[0]
    yes, no = ([game.format(int(move)) for move in np.flatnonzero(which)] for which in (legal, ~legal))
    if not no:
        return "All moves are legal."
    if len(yes) > SHOWN and len(no) < len(yes):
        return f"All moves are legal but {_listed(no)}."
    return f"Legal {'is' if len(yes) == 1 else 'are'} {_listed(yes)}."


def text(game: Game[Any], record: Record, result: str = "", names: tuple[str, str] = ("", "")) -> str:
    """A game as the text of a file: SGF of Go, else the moves and the result in one line.

    Args:
        result: of Go, as SGF writes it: B+R; by default the score of the last position.
        names: of the players, Black first; only SGF keeps them.
    """
    if not isinstance(game, Go):
        return f"{record.text(game)}\n"
    score = result or game.result(positions(game, record.moves)[-1])
    return sgf.written(sgf.Game(game.size, game.komi, record.moves, *names, score))


def suffix(game: Game[Any]) -> str:
    """Of files that hold such texts, one after another."""
    return ".sgf" if isinstance(game, Go) else ".txt"


def read(game: Game[Any], line: str) -> Record:
    """The game in a line of moves and a result, as `Record.text` writes it; it is replayed.

    Raises:
        ValueError: it is none; one sentence.
    """
    *words, last = line.split() or [""]
    if last not in RESULTS:
        raise ValueError(f"A game ends with {', '.join(RESULTS)}, not '{last}'.")
    moves = tuple(game.parse(word) for word in words)
    positions(game, moves)
    return Record(moves, RESULTS[last])


def _listed(moves: Sequence[str]) -> str:
    more = f" and {len(moves) - SHOWN} more" if len(moves) > SHOWN else ""
    return ", ".join(moves[:SHOWN]) + more
