"""Diagrams of a game of Go as books print them: numbered stones on the lines, and a new diagram where a point is played again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ray_jobs.results.plots import GREY, INK, figure, save
from ray_jobs.self_play.games.go import LETTERS, Go
from ray_jobs.self_play.records import positions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 100
"""Moves of one diagram."""
ACROSS = 3
"""Diagrams side by side."""
WOOD = "#f2e2c4"


class Diagram(NamedTuple):
    """Some moves of a game."""

    before: NDArray[np.int8]
    """The stones before the first of them [rows, columns]."""
    first: int
    """Number of the first move, from 1."""
    moves: tuple[int, ...]


def diagrams(game: Go, moves: Sequence[int], path: Path, title: str = "") -> Path:
    """Draw a game as a PNG; stones that are captured within a diagram stay on it.

    Raises:
        ValueError: a move is not legal; one sentence.
    """
    shown = parts(game, moves)
    columns = min(ACROSS, len(shown))
    rows = -(-len(shown) // columns)
    side = _side(game.size)
    with figure(side * columns, (side + 0.4) * rows) as (fig, axes):
        axes.remove()
        places = np.atleast_1d(fig.subplots(rows, columns)).ravel()
        for place, diagram in zip(places, shown, strict=False):
            _draw(place, game, diagram)
        for place in places[len(shown) :]:
            place.remove()
        fig.suptitle(title, fontsize=10, color=INK)
        return save(fig, path)


def parts(game: Go, moves: Sequence[int]) -> list[Diagram]:
    """The diagrams of a game: each ends before a point is played again, or after `MOST` moves.

    Raises:
        ValueError: a move is not legal; one sentence.
    """
    boards = [game.stones(states)[0] for states in positions(game, moves)]
    found, begun, points = [], 0, set[int]()
    for number, move in enumerate(moves):
        if move in points or number - begun == MOST:
            found.append(Diagram(boards[begun], begun + 1, tuple(moves[begun:number])))
            begun, points = number, set()
        points |= {move} - {game.cells}
    return [*found, Diagram(boards[begun], begun + 1, tuple(moves[begun:]))]


def _draw(axes: Axes, game: Go, diagram: Diagram) -> None:
    """One diagram on its axes."""
    from matplotlib.patches import Circle

    n = game.size
    axes.set(xlim=(-0.7, n - 0.3), ylim=(n - 0.3, -0.7), aspect="equal", facecolor=WOOD)
    axes.grid(visible=False)
    axes.set_xticks(range(n), list(LETTERS[:n]), fontsize=6)
    axes.set_yticks(range(n), [str(n - i) for i in range(n)], fontsize=6)
    for line in range(n):
        axes.plot([0, n - 1], [line, line], color=GREY, linewidth=0.6, zorder=1)
        axes.plot([line, line], [0, n - 1], color=GREY, linewidth=0.6, zorder=1)
    for row, column in _stars(n):
        axes.plot(column, row, ".", color=GREY, markersize=4, zorder=1)

    def stone(row: int, column: int, black: bool, number: str = "") -> None:
        face, ink = (INK, "white") if black else ("white", INK)
        axes.add_patch(Circle((column, row), 0.46, facecolor=face, edgecolor=INK, linewidth=0.6, zorder=2))
        size = (
            60 * _side(n) / (n + 1) * (0.5 if len(number) < 3 else 0.36)
        )  # of 60 points to an inch: the rest are margins
        axes.text(column, row, number, color=ink, ha="center", va="center", fontsize=size, zorder=3)

    for (row, column), colour in np.ndenumerate(diagram.before):
        if colour:
            stone(row, column, colour == 1)
    passes = []
    for number, move in enumerate(diagram.moves, diagram.first):
        if move == game.cells:
            passes.append(str(number))
        else:
            stone(*divmod(move, n), number % 2 == 1, str(number))
    last = diagram.first + len(diagram.moves) - 1
    axes.set_title(f"{diagram.first} to {last}" if diagram.moves else "no moves", fontsize=8)
    if passes:
        axes.set_xlabel(f"pass: {', '.join(passes)}", fontsize=7)


def _side(n: int) -> float:
    """Inches of a diagram of n lines."""
    return 2.2 + 0.16 * n


def _stars(n: int) -> list[tuple[int, int]]:
    """The marked points of a board of n lines."""
    edge = 2 if n < 12 else 3
    lines = {edge, n - 1 - edge} | ({n // 2} if n % 2 else set()) if n >= 9 else set()
    return [(row, column) for row in lines for column in lines]
