"""A table: games that a network plays against itself, side by side, and what is learned from them.

Source: Silver et al. 2017, doi:10.1038/nature24270, methods (self-play).
Differs: a game may start with moves drawn at random, which are not learned from. No game is resigned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ray_jobs.recipe.process import generator
from ray_jobs.self_play.games.game import Flags, Game, S
from ray_jobs.self_play.learning import Positions
from ray_jobs.self_play.search import Array, Evaluate, Search, at_random, draw, search


class Manner(NamedTuple):
    """How games of self-play are played."""

    search: Search
    temperature_moves: int
    """Moves of a game that are drawn in proportion to visits; later ones are the most visited."""
    noise: float
    """Parameter alpha of the Dirichlet noise at the root; 0: no noise."""
    openings: int = 0
    """A game starts with 0 to this many random moves."""


class Played(NamedTuple):
    """The games of a table, or of several."""

    positions: Positions
    """In the order of games, and of moves within a game."""
    lengths: NDArray[np.int64]
    """Moves of each game."""
    outcome: NDArray[np.float32]
    """Of each game, for the player who began."""


def play(game: Game[S], evaluate: Evaluate, games: int, how: Manner, rng: np.random.Generator) -> Played:
    """Play so many games side by side; games that are over leave the batch."""
    states, opening = game.begin(games), rng.integers(0, how.openings + 1, games)
    lengths, result = np.zeros(games, np.int64), np.zeros(games, np.float32)
    kept: list[tuple[NDArray[np.int64], NDArray[np.int8], Array]] = []
    rows, ply = np.arange(games), 0
    while len(rows):
        here = states[rows]
        policy = search(game, here, evaluate, how.search, dirichlet(game.legal(here), how.noise, rng)).policy
        learned = ply >= opening[rows]
        kept.append((rows[learned], game.observe(here[learned]), policy[learned]))
        chosen = draw(policy, rng) if ply < how.temperature_moves else policy.argmax(1)
        after = game.play(here, np.where(learned, chosen, at_random(game, here, rng)))
        states.put(rows, after)
        ply += 1
        lengths[rows] = ply
        over = game.over(after)
        result[rows[over]] = game.outcome(after[over]) * (1 - 2 * (ply % 2))  # as the player who began sees it
        rows = rows[~over]
    return Played(in_order(kept, result), lengths, result)


def played(game: Game[S], evaluate: Evaluate, how: Manner, key: tuple[int, int], games: range) -> Played:
    """The games of a table; they are a function of (evaluate, how, key, first game).

    Args:
        key: seed and round.
    """
    return play(game, evaluate, len(games), how, generator(*key, games.start))


def summary(tables: Sequence[Played]) -> dict[str, float]:
    """How long the games of a round were, and how they ended."""
    outcome = np.concatenate([table.outcome for table in tables])
    return {
        "game_length": float(np.concatenate([table.lengths for table in tables]).mean()),
        "first_player_wins": float((outcome == 1).mean()),
        "draws": float((outcome == 0).mean()),
    }


def in_order(kept: list[tuple[NDArray[np.int64], NDArray[np.int8], Array]], result: NDArray[np.float32]) -> Positions:
    """Positions by game and ply, from those of each ply: games, observations, policies; `result` is as the player who began sees it."""
    games = np.concatenate([rows for rows, _, _ in kept])
    signs = np.concatenate([np.full(len(rows), 1 - 2 * (ply % 2)) for ply, (rows, _, _) in enumerate(kept)])
    order = np.argsort(games, kind="stable")
    return Positions(
        np.concatenate([seen for _, seen, _ in kept])[order],
        np.concatenate([policy for _, _, policy in kept]).astype(np.float32)[order],
        (signs * result[games]).astype(np.float32)[order],
    )


def dirichlet(legal: Flags, alpha: float, rng: np.random.Generator) -> Array | None:
    """Noise over the legal moves [B, moves], from the symmetric Dirichlet distribution; None without noise."""
    if not alpha:
        return None
    drawn = rng.standard_gamma(alpha, legal.shape) * legal + 1e-300 * legal  # all may be drawn as 0
    return drawn / drawn.sum(1, keepdims=True)
