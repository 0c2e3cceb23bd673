"""How strong a player is: by the truth where it is known (losing lines of tic-tac-toe, value kept in connect-4), and by its rating."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ray_jobs.recipe.process import Crew
from ray_jobs.self_play.games.game import Game
from ray_jobs.self_play.games.in_a_row import CONNECT_4, TIC_TAC_TOE
from ray_jobs.self_play.players import Player
from ray_jobs.self_play.search import Array
from ray_jobs.self_play.strength import exact, solved
from ray_jobs.self_play.strength.arena import Arena

SHARD = 500
"""Positions that a worker looks at together."""


class Measure(NamedTuple):
    """A share or a number of cases, counted in shards."""

    name: str
    shards: tuple[Any, ...]
    counted: Callable[[Player, Any], int]
    """Cases of a shard."""
    out_of: int
    """What the sum over the shards is divided by."""


def measure_of(game: Game[Any]) -> Measure | None:
    """The measure of a game whose truth is known here, else None."""
    if game == TIC_TAC_TOE:
        return Measure("losing_lines", (True, False), losing_lines, 1)
    if game == CONNECT_4:
        shards = tuple(slice(first, first + SHARD) for first in range(0, solved.POSITIONS, SHARD))
        return Measure("value_kept", shards, solved.kept, solved.POSITIONS)
    return None


def losing_lines(player: Player, first: bool) -> int:
    """Lines of play of tic-tac-toe that the player loses, who moves first or second."""
    choose = functools.partial(player.move, TIC_TAC_TOE, rng=np.random.default_rng(0))
    return exact.lost(TIC_TAC_TOE, choose, TIC_TAC_TOE.begin(1), first)


class Strength(NamedTuple):
    """How strong a player is."""

    metrics: dict[str, float]
    """The measure of the game, and the rating with its interval, as far as there are some."""
    value: float
    """The measure of the game; NaN without one."""
    ladder: Array
    """See `Arena.ladder`."""
    points: Array
    """See `Arena.points`."""


def measured(player: Player, arena: Arena, ladder: Array, crew: Crew) -> Strength:
    """Measure a player.

    Args:
        arena: without openings, there is no rating.
        ladder: points of the anchors against each other [A, A, openings, 2]; [A, A, 0, 2] before they have met.
    """
    metrics, value, measure = dict[str, float](), math.nan, measure_of(arena.game)
    if measure:
        counts = crew.map(functools.partial(measure.counted, player), measure.shards)
        value = metrics[measure.name] = sum(counts) / measure.out_of
    if not arena.openings:
        return Strength(metrics, value, ladder, np.zeros((len(ladder), 0, 2)))
    ladder = ladder if ladder.shape[2] else arena.ladder(crew)
    points = arena.points(player, crew)
    rating, _ = arena.rating(ladder, points)
    return Strength(
        metrics | {"elo": rating.elo, "elo_low": rating.low, "elo_high": rating.high}, value, ladder, points
    )
