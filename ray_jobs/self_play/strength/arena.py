"""Matches: two players meet from random openings, each opening twice, once with either player to move first; and the arena of anchors."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_jobs.recipe.process import Crew, generator
from ray_jobs.self_play.games.game import Game, S
from ray_jobs.self_play.players import Player, without_network
from ray_jobs.self_play.search import Array, at_random
from ray_jobs.self_play.strength.elo import Rating, rated

STARTS = 2**41
"""In place of a round, in the keys of random numbers of the arena."""


def openings(game: Game[S], n: int, moves: int, rng: np.random.Generator) -> S:
    """Positions after so many random moves [n]; a game that was over by then is replaced by another.

    Raises:
        ValueError: nearly all games are over by then.
    """
    found, rows = game.begin(n), np.arange(n)
    for _ in range(1_000):
        states = game.begin(len(rows))
        for _ in range(moves):
            running = np.flatnonzero(~game.over(states))
            here = states[running]
            states.put(running, game.play(here, at_random(game, here, rng)))
        found.put(rows, states)
        rows = rows[game.over(states)]
        if not len(rows):
            return found
    raise ValueError(f"Openings of {moves} random moves are too long: games of {game.name} are over by then.")


def match(game: Game[S], starts: S, one: Player, other: Player, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points of player `one` against the other [n, 2]: the first game from each opening `one` moves first in, the second the other.

    A win is 1 point, a draw a half.
    """
    n = len(starts)
    states = starts[np.tile(np.arange(n), 2)]
    mine = np.repeat([True, False], n)
    """Whether `one` is to move."""
    points, rows = np.zeros(2 * n), np.arange(2 * n)
    while len(rows):
        for player, whose in ((one, True), (other, False)):
            turn = rows[mine[rows] == whose]
            if len(turn):
                here = states[turn]
                states.put(turn, game.play(here, player.move(game, here, rng)))
        mine[rows] = ~mine[rows]
        over = rows[game.over(states[rows])]
        sign = np.where(mine[over], 1, -1)
        points[over] = (1 + sign * game.outcome(states[over])) / 2
        rows = rows[~game.over(states[rows])]
    return points.reshape(2, n).T.copy()


@dataclass(frozen=True)
class Arena:
    """Anchors, that is opponents of fixed strength, and the openings from which all pairs meet. The first anchor plays at random."""

    game: Game[Any]
    simulations: tuple[int, ...]
    """Of the other anchors, which search without a network."""
    openings: int
    moves: int
    """Random moves of an opening."""
    seed: int

    @property
    def anchors(self) -> tuple[Player, ...]:
        """All anchors."""
        return tuple(without_network(self.game, n) for n in (0, *self.simulations))

    @property
    def names(self) -> tuple[str, ...]:
        """The anchors in words."""
        return ("random", *(f"{n} simulations" for n in self.simulations))

    def starts(self, *key: int) -> Any:
        """The openings' positions, a function of the seed and further numbers."""
        return openings(self.game, self.openings, self.moves, generator(self.seed, STARTS, *key))

    def pair(self, players: tuple[int, int]) -> Array:
        """Points of one anchor against another [openings, 2]."""
        one, other = (self.anchors[i] for i in players)
        return match(self.game, self.starts(), one, other, generator(self.seed, STARTS, *players))

    def ladder(self, crew: Crew) -> Array:
        """Points of every anchor against every other [A, A, openings, 2], by pairs on the crew."""
        n = len(self.anchors)
        points = np.zeros((n, n, self.openings, 2))
        pairs = [(i, j) for i in range(n) for j in range(i)]
        for (i, j), found in zip(pairs, crew.map(self.pair, pairs), strict=True):
            points[i, j], points[j, i] = found, 1 - found[:, ::-1]  # the first game of one is the second of the other
        return points

    def against(self, player: Player, anchor: int) -> Array:
        """Points of a player against an anchor [openings, 2]."""
        return match(self.game, self.starts(), player, self.anchors[anchor], generator(self.seed, STARTS, anchor))

    def points(self, player: Player, crew: Crew) -> Array:
        """Points of a player against each anchor [A, openings, 2]."""
        return np.stack(crew.map(functools.partial(self.against, player), range(len(self.anchors))))

    def rating(self, ladder: Array, points: Array) -> tuple[Rating, Array]:
        """The rating of a player by its points, and the anchors' own [A]; the openings that the interval resamples are always the same."""
        return rated(ladder, points, generator(STARTS))


def versus(arena: Arena, one: Player, other: Player, key: tuple[int, int], part: int) -> float:
    """The share of points of one player against another from openings that are a function of (seed, key, part)."""
    return float(match(arena.game, arena.starts(*key, part), one, other, generator(arena.seed, *key, part)).mean())
