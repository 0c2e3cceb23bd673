"""Games that are small enough to be solved: all positions with their values, and every line of play against a player."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ray_jobs.self_play.games.game import Game, Moves, S, States


def solve(game: Game[S]) -> tuple[S, NDArray[np.int8]]:
    """All positions that can be reached [B], each once, and their values for the player to move [B]: 1, 0, -1.

    A position must show how many moves have been played, as those of games do in which stones stay.
    """
    levels = [game.begin(1)]
    while len(after := successors(game, levels[-1])[0]):
        levels.append(after[first_of_each(after)])
    found: list[NDArray[np.int8]] = []
    below: dict[bytes, int] = {}
    for states in reversed(levels):
        values = game.outcome(states).astype(np.int8)
        after, parents = successors(game, states)
        best = np.full(len(states), -1, np.int8)
        np.maximum.at(best, parents, np.array([-below[key] for key in keys(after)], np.int8))
        values = np.where(game.over(states), values, best)
        below = dict(zip(keys(states), values.tolist(), strict=True))
        found.append(values)
    return joined(levels), np.concatenate(found[::-1])


def successors(game: Game[S], states: S) -> tuple[S, NDArray[np.int64]]:
    """The positions after every legal move of those that are not finished, and the row of each one's parent."""
    parents, moves = np.nonzero(game.legal(states) & ~game.over(states)[:, None])
    return game.play(states[parents], moves), parents


def keys(states: States) -> list[bytes]:
    """Bytes that tell positions apart."""
    return [b"".join(part[i].tobytes() for part in vars(states).values()) for i in range(len(states))]


def first_of_each(states: States) -> NDArray[np.int64]:
    """The rows of positions that no earlier row has."""
    rows: dict[bytes, int] = {}
    for row, key in enumerate(keys(states)):
        rows.setdefault(key, row)
    return np.array(list(rows.values()), np.int64)


def joined(parts: list[S]) -> S:
    """Positions one after the other."""
    return type(parts[0])(*(np.concatenate(arrays) for arrays in zip(*(vars(p).values() for p in parts), strict=True)))


def losing_lines(game: Game[S], choose: Callable[[S], Moves]) -> int:
    """How many lines of play a player loses, when the other side plays every legal move at every turn; as first and as second player.

    Args:
        choose: the player's moves in positions that are not finished.
    """
    return sum(lost(game, choose, game.begin(1), mine) for mine in (True, False))


def lost(game: Game[S], choose: Callable[[S], Moves], states: S, mine: bool) -> int:
    """Lines from these positions that the player loses; `mine`: they are to move."""
    over = game.over(states)
    count = int((game.outcome(states[over]) == (-1 if mine else 1)).sum())
    states = states[~over]
    if not len(states):
        return count
    after = game.play(states, choose(states)) if mine else successors(game, states)[0]
    return count + lost(game, choose, after, not mine)
