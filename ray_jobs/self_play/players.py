"""Players of games that count, and the records of what they have played."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ray_jobs.self_play.games.game import Game, Moves, S
from ray_jobs.self_play.search import Array, Evaluate, Search, Uniform, draw, search


class Player(NamedTuple):
    """Who plays games that count: the most visited move, without noise."""

    evaluate: Evaluate
    search: Search
    """With 0 simulations: legal moves at random."""

    def policy(self, game: Game[S], states: S) -> Array:
        """Probabilities of the moves of positions that are not finished [B, moves]: visits of the search."""
        if not self.search.simulations:
            legal = game.legal(states)
            return legal / legal.sum(1, keepdims=True)
        return search(game, states, self.evaluate, self.search).policy

    def move(self, game: Game[S], states: S, rng: np.random.Generator) -> Moves:
        """The moves that are played [B]."""
        policy = self.policy(game, states)
        return policy.argmax(1) if self.search.simulations else draw(policy, rng)


def without_network(game: Game[S], simulations: int) -> Player:
    """A player whose search knows nothing but the rules; with 0 simulations one that plays at random."""
    return Player(Uniform(game), Search(simulations))


class Record(NamedTuple):
    """A game that was played."""

    moves: tuple[int, ...]
    outcome: int
    """1 where the player who began won, -1 where the other did, 0 drawn."""

    def text(self, game: Game[S]) -> str:
        """The moves as players write them, and the result, in one line."""
        result = {1: "1-0", 0: "1/2-1/2", -1: "0-1"}[self.outcome]
        return " ".join([*(game.format(move) for move in self.moves), result])


def recorded(game: Game[S], player: Player, games: int, drawn: int, rng: np.random.Generator) -> list[Record]:
    """Games of a player against itself.

    Args:
        drawn: moves of each game that are drawn in proportion to visits, so that games differ.
    """
    states, rows, moves, outcome = game.begin(games), np.arange(games), [list[int]() for _ in range(games)], [0] * games
    while len(rows):
        here = states[rows]
        policy = player.policy(game, here)
        chosen = draw(policy, rng) if len(moves[rows[0]]) < drawn else policy.argmax(1)
        after = game.play(here, chosen)
        states.put(rows, after)
        for row, move, over, result in zip(rows, chosen, game.over(after), game.outcome(after), strict=True):
            moves[row].append(int(move))
            outcome[row] = int(result) * (1 - 2 * (len(moves[row]) % 2)) if over else 0
        rows = rows[~game.over(after)]
    return [Record(tuple(m), o) for m, o in zip(moves, outcome, strict=True)]
