"""Solved positions of connect-4, and the share of them in which a player keeps the value.

python -m ray_jobs.self_play.strength.solved      makes connect4.txt again, in about two minutes

A line of the file is a position, as the columns that were played (from 1), and the value of a stone in each column for the player to
move: + won, = drawn, - lost, . full. The positions come from random games, in which nobody overlooks a win in one move. The player to
move cannot win at once, and some move has a lower value than the best one.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ray_jobs.recipe.process import generator
from ray_jobs.self_play.games.in_a_row import CONNECT_4, Boards
from ray_jobs.self_play.players import Player
from ray_jobs.self_play.strength.connect4 import BOARD, WIDTH, Solver, after, board, column, free, wins

FILE = Path(__file__).with_name("connect4.txt")
POSITIONS, FEWEST, MOST = 2_000, 20, 29
"""How many positions, and how many stones they have."""
SIGNS = {1: "+", 0: "=", -1: "-", None: "."}
FULL = -2
"""In place of the value of a full column."""


class Solved(NamedTuple):
    """Positions with the values of their moves."""

    states: Boards
    """[N]"""
    values: NDArray[np.int8]
    """[N, 7]: 1, 0, -1 for the player to move; FULL."""


@functools.cache
def solved() -> Solved:
    """The positions of the file."""
    lines = [line.split() for line in FILE.read_text().splitlines()]
    moves = np.full((len(lines), MOST), -1)
    for row, (played, _) in enumerate(lines):
        moves[row, : len(played)] = [int(c) - 1 for c in played]
    states = CONNECT_4.begin(len(lines))
    for ply in range(MOST):
        rows = np.flatnonzero(moves[:, ply] >= 0)
        states.put(rows, CONNECT_4.play(states[rows], moves[rows, ply]))
    numbers = {sign: FULL if value is None else value for value, sign in SIGNS.items()}
    return Solved(states, np.array([[numbers[sign] for sign in signs] for _, signs in lines], np.int8))


def kept(player: Player, rows: slice) -> int:
    """In how many of the positions the player's move has the best value."""
    states, values = solved().states[rows], solved().values[rows]
    moves = player.policy(CONNECT_4, states).argmax(1)
    return int((values[np.arange(len(moves)), moves] == values.max(1)).sum())


def position(stones: int, rng: np.random.Generator) -> list[int] | None:
    """Columns of a game with so many moves by players who block a win where they see it, and else move at random.

    Returns:
        None where somebody could have won by then, or can now.
    """
    mine, full, moves = 0, 0, list[int]()
    while not wins(mine, full) & free(full) and full != BOARD:
        if len(moves) == stones:
            return moves
        cells = wins(full ^ mine, full) & free(full) or free(full)
        moves.append(int(rng.choice([c for c in range(WIDTH) if cells & column(c)])))
        mine, full = after(mine, full, moves[-1])
    return None


def line(stones: int, rng: np.random.Generator) -> str | None:
    """A line of the file; None where the game is over before, or all moves have the same value."""
    moves = position(stones, rng)
    if moves is None:
        return None
    values = Solver().values(*board(moves))
    if len({v for v in values if v is not None}) == 1:
        return None
    return "".join(str(c + 1) for c in moves) + " " + "".join(SIGNS[v] for v in values)


def main() -> None:
    """Write the file, line by line."""
    rng, lines = generator(4), set[str]()
    with FILE.open("w") as file:
        while len(lines) < POSITIONS:
            found = line(int(rng.integers(FEWEST, MOST + 1)), rng)
            if found and found not in lines:
                lines.add(found)
                print(found, file=file, flush=True)


if __name__ == "__main__":
    main()
