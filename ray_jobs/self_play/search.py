"""Tree search guided by a network (PUCT), in many games at once.

Source: Silver et al. 2017, doi:10.1038/nature24270, methods (search algorithm); the growing exploration rate and the root's noise: Silver
et al. 2018, doi:10.1126/science.aar6404, pseudocode.
Differs: each simulation adds one leaf to every tree, so that the leaves of all games are one batch of the network and there is no virtual
loss. A tree is not kept for the next move: a search is a function of weights, position and noise. Before the first visit the square root of
the visits counts as 1, so that the prior decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ray_jobs.self_play.games.game import Flags, Game, Moves, S

Array = NDArray[np.float64]
Nodes = NDArray[np.int64]
Evaluate = Callable[[Any], tuple[Array, Array]]
"""States of B positions -> logits of moves [B, moves], of illegal ones too, and values [B] in [-1, 1] for the player to move."""


class Search(NamedTuple):
    """How a position is searched."""

    simulations: int
    c_init: float = 1.25
    """Exploration rate at the first visits."""
    c_base: float = 19652.0
    """Visits by which the rate grows; infinity: it stays."""
    noise_share: float = 0.25
    """Part of the root's prior that is noise, where noise is given."""


class Found(NamedTuple):
    """What the searches of B positions have found."""

    visits: Array
    """Of the root's moves [B, moves]."""
    value: Array
    """Mean value of the root and all its simulations, for the player to move [B]."""

    @property
    def policy(self) -> Array:
        """Visits as probabilities [B, moves]."""
        return self.visits / np.maximum(self.visits.sum(1, keepdims=True), 1)


def puct(q: Array, visits: Array, prior: Array, how: Search) -> Array:
    """Scores of moves, Q + c P sqrt(sum N) / (1 + N), of which the largest is played; all [*, moves].

    Source: Silver et al. 2017, methods, 'Select'; c = log((1 + sum N + c_base) / c_base) + c_init: Silver et al. 2018, pseudocode.
    """
    seen = visits.sum(-1, keepdims=True)
    rate = np.log1p((1 + seen) / how.c_base) + how.c_init
    return q + rate * np.sqrt(np.maximum(seen, 1)) * prior / (1 + visits)


def softmax(logits: Array, legal: Flags) -> Array:
    """Probabilities of the legal moves [B, moves]; where none is legal, zeros."""
    shown = np.where(legal, logits, -np.inf)
    top = shown.max(1, keepdims=True)
    e = np.exp(shown - np.where(np.isfinite(top), top, 0.0))
    return e / np.maximum(e.sum(1, keepdims=True), 1e-300)


Step = tuple[Nodes, Nodes, Moves]
"""Trees, a node of each, and the move made there."""


class Trees(Generic[S]):
    """B trees with room for `size` nodes each, as flat arrays: node i of tree b is in row b * size + i, and node 0 is the root.

    What is kept of a move is seen by the player who makes it.
    """

    def __init__(self, game: Game[S], roots: S, size: int, how: Search) -> None:
        b, self.game, self.how = len(roots), game, how
        self.roots: Nodes = np.arange(b) * size
        self.states = roots.room(b * size)
        self.states.put(self.roots, roots)
        self.child = np.full((b * size, game.moves), -1, np.int64)
        self.visits, self.total, self.q, self.prior = (np.zeros((b * size, game.moves)) for _ in range(4))
        self.over, self.outcome = np.zeros(b * size, bool), np.zeros(b * size)

    def add(self, nodes: Nodes, logits: Array) -> None:
        """Fill in new nodes, whose states are there. Q of a move without visits is 0, an even game; of an illegal one minus infinity."""
        states = self.states[nodes]
        legal = self.game.legal(states)
        self.over[nodes], self.outcome[nodes] = self.game.over(states), self.game.outcome(states)
        self.q[nodes] = np.where(legal, 0.0, -np.inf)
        self.prior[nodes] = softmax(logits, legal)

    def descend(self, new: int) -> tuple[list[Step], Nodes, Nodes]:
        """Select moves from the root to a leaf in every tree: to a finished position, or to one that becomes node `new`.

        Returns:
            the steps, the leaf of each tree [B], and the trees whose leaf is new.
        """
        node, path, fresh = self.roots.copy(), list[Step](), [np.zeros(0, np.int64)]
        trees = np.flatnonzero(~self.over[node])
        while len(trees):
            at = node[trees]
            move = puct(self.q[at], self.visits[at], self.prior[at], self.how).argmax(1)
            path.append((trees, at, move))
            after = self.child[at, move]
            first = after < 0
            if first.any():
                grown, parent, made = trees[first], at[first], move[first]
                after[first] = self.child[parent, made] = self.roots[grown] + new
                self.states.put(after[first], self.game.play(self.states[parent], made))
                fresh.append(grown)
            node[trees] = after
            trees = trees[~first & ~self.over[after]]
        return path, node, np.concatenate(fresh)

    def simulate(self, new: int, evaluate: Evaluate) -> Array:
        """One simulation in every tree; the values at the roots [B], for the player to move there.

        A finished game has its outcome for the player to move, who may just have been beaten; the network's value of it is not used. The
        network always sees one position of every tree, because outputs have equal bits only in batches of one size.
        """
        path, leaf, fresh = self.descend(new)
        logits, value = evaluate(self.states[leaf])
        self.add(leaf[fresh], logits[fresh])
        value = np.where(self.over[leaf], self.outcome[leaf], value)
        for trees, nodes, move in reversed(path):
            value[trees] *= -1
            self.total[nodes, move] += value[trees]
            self.visits[nodes, move] += 1
            self.q[nodes, move] = self.total[nodes, move] / self.visits[nodes, move]
        return value


def search(game: Game[S], roots: S, evaluate: Evaluate, how: Search, noise: Array | None = None) -> Found:
    """Search from positions that are not finished.

    Args:
        noise: a distribution over the legal moves of each root [B, moves], in self-play; None in games that count.
    """
    trees = Trees(game, roots, how.simulations + 1, how)
    logits, value = evaluate(roots)
    trees.add(trees.roots, logits)
    if noise is not None:
        trees.prior[trees.roots] = (1 - how.noise_share) * trees.prior[trees.roots] + how.noise_share * noise
    total = value.copy()
    for new in range(1, how.simulations + 1):
        total += trees.simulate(new, evaluate)
    return Found(trees.visits[trees.roots], total / (how.simulations + 1))


@dataclass(frozen=True)
class Uniform:
    """An evaluation that knows nothing: all moves alike, every position even."""

    game: Game[Any]

    def __call__(self, states: Any) -> tuple[Array, Array]:
        return np.zeros((len(states), self.game.moves)), np.zeros(len(states))


def playouts(game: Game[S], rng: np.random.Generator) -> Evaluate:
    """An evaluation by one random game from each position."""

    def evaluate(states: S) -> tuple[Array, Array]:
        value, sign = np.zeros(len(states)), np.ones(len(states))
        rows = np.arange(len(states))
        while len(rows):
            over = game.over(states)
            value[rows[over]] = sign[rows[over]] * game.outcome(states[over])
            rows, states = rows[~over], states[~over]
            states = game.play(states, at_random(game, states, rng))
            sign[rows] *= -1
        return np.zeros((len(value), game.moves)), value

    return evaluate


def at_random(game: Game[S], states: S, rng: np.random.Generator) -> Moves:
    """A legal move of each position [B], all alike; no position is finished."""
    return draw(game.legal(states).astype(float), rng)


def draw(weights: Array, rng: np.random.Generator) -> Moves:
    """A place in each row [B], drawn in proportion to the weights [B, moves]."""
    edges = weights.cumsum(1)
    u = rng.random((len(weights), 1)) * edges[:, -1:]
    return np.minimum((edges <= u).sum(1), weights.shape[1] - 1)
