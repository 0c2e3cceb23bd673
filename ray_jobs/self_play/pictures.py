"""Pictures of self-play: ratings and strength by round, and a game. Matplotlib is imported when they are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ray_jobs.results.plots import BLUE, GREY, INK, LINE, figure, save
from ray_jobs.self_play.games.game import Game
from ray_jobs.self_play.players import Record
from ray_jobs.self_play.search import Array
from ray_jobs.self_play.strength.elo import Rating

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BOARDS = 6
"""Most boards of a game's picture."""
WORDS = {"losing_lines": "losing lines of play", "value_kept": "solved positions whose value is kept"}


def elo(rounds: NDArray[np.int64], ratings: Sequence[Rating], anchors: Mapping[str, float], path: Path) -> Path:
    """Ratings by round with their 95% intervals, and those of the anchors as lines."""
    with figure(6.4, 3.8) as (fig, axes):
        for name, rating in anchors.items():
            axes.axhline(rating, color=GREY, linewidth=1, linestyle="--")
            axes.annotate(name, (0, rating), xycoords=("axes fraction", "data"), color=INK, fontsize=8, va="bottom")
        low, middle, high = (np.array([getattr(r, part) for r in ratings]) for part in ("low", "elo", "high"))
        axes.errorbar(rounds, middle, np.stack([middle - low, high - middle]), color=BLUE, capsize=3, marker="o")
        axes.set(xlabel="round", ylabel="Elo above a random player", xlim=(0, rounds[-1] * 1.03))
        axes.locator_params(axis="x", integer=True)
        return save(fig, path)


def strength(rounds: NDArray[np.int64], values: Array, measure: str, path: Path) -> Path:
    """The measure of the game by round."""
    with figure(6.4, 3.4) as (fig, axes):
        axes.plot(rounds, values, color=BLUE, marker="o")
        axes.set(xlabel="round", ylabel=WORDS.get(measure, measure), xlim=(0, rounds[-1] * 1.03))
        axes.set_ylim(0, max(1.0, 1.05 * float(values.max())))  # shares up to 1, and counts
        axes.locator_params(axis="x", integer=True)
        return save(fig, path)


def game(of: Game[Any], record: Record, path: Path) -> Path:
    """Boards of a game from its beginning to its end, with the numbers of the moves on the stones."""
    states, seen = of.begin(1), [of.stones(of.begin(1))[0]]
    numbers = [np.zeros((of.rows, of.columns), int)]
    for ply, move in enumerate(record.moves, 1):
        states = of.play(states, np.array([move]))
        seen.append(of.stones(states)[0])
        numbers.append(np.where(seen[-1] == 0, 0, np.where(seen[-1] != seen[-2], ply, numbers[-1])))
    shown = np.unique(np.linspace(0, len(record.moves), BOARDS + 1).round().astype(int)[1:])
    side = 1.9
    with figure(side * len(shown), side * of.rows / of.columns + 0.5) as (fig, axes):
        axes.remove()
        for ply, part in zip(shown, np.atleast_1d(fig.subplots(1, len(shown))), strict=True):
            board(part, seen[ply], numbers[ply])
            part.set_title(f"after {ply}" if ply < len(record.moves) else end(record), fontsize=8)
        return save(fig, path)


def end(record: Record) -> str:
    """How a game ended, in words."""
    if not record.outcome:
        return f"drawn after {len(record.moves)}"
    return f"{'first' if record.outcome > 0 else 'second'} player wins after {len(record.moves)}"


def board(axes: Axes, stones: NDArray[np.int8], numbers: NDArray[np.int64]) -> None:
    """A board [rows, columns] with the number of the move on each stone; the first player's stones are dark."""
    from matplotlib.patches import Circle

    rows, columns = stones.shape
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), xticks=[], yticks=[], aspect="equal")
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(False)
    axes.grid(True, which="minor", color=LINE)
    axes.tick_params(which="both", length=0)
    for (row, column), stone in np.ndenumerate(stones):
        if stone:
            fill, ink = (INK, "white") if stone == 1 else ("white", INK)
            axes.add_patch(Circle((column, row), 0.42, facecolor=fill, edgecolor=INK, linewidth=0.8))
            size = 110 / max(rows, columns) / (1.5 if numbers.max() > 99 else 1.2)
            axes.text(column, row, str(numbers[row, column]), color=ink, ha="center", va="center", fontsize=size / 2)
