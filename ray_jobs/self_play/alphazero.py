"""AlphaGo Zero: a network learns a game from nothing but its rules, by predicting the search that it guides and who wins in the end.

A round plays games with fixed weights, on tables that workers share, then makes `updates` steps on the positions of the newest games.

Source: Silver et al. 2017, doi:10.1038/nature24270; AlphaZero: Silver et al. 2018, doi:10.1126/science.aar6404.
Differs: games and learning take turns, so that a run does not depend on timing; the exploration rate is AlphaZero's;
symmetries are used in learning alone; a tree is not kept for the next move; no game is resigned. By default there is no gate, a perceptron
takes the place of the convolutional tower, and Adam that of momentum.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ray_jobs.recipe.process import Crew, State, generator
from ray_jobs.recipe.ranges import Count, Decay, NotNegative, Positive, Share, Threshold, Whole
from ray_jobs.self_play import networks
from ray_jobs.self_play.games.go import Go
from ray_jobs.self_play.games.named import named
from ray_jobs.self_play.learning import Averages, Positions, Steps, learn
from ray_jobs.self_play.networks import Evaluator, PolicyValue, Weights, load, one_thread, weights_of
from ray_jobs.self_play.players import Player, recorded
from ray_jobs.self_play.search import Search
from ray_jobs.self_play.strength.arena import Arena, versus
from ray_jobs.self_play.strength.measures import Strength, measure_of, measured
from ray_jobs.self_play.table import Manner, played, summary

LEARNING, GATE, SHOWN = 2**40, 2**41, 2**42
"""In place of the first game of a table, in the keys of other random numbers."""

Parts = TypeVar("Parts", bound=tuple[Any, ...])


@dataclass(frozen=True)
class AlphaZero:
    """A network that learns a game by playing against itself."""

    env: str = ""
    """The game: tictactoe, connect4, go9, go7-9.5 (lines and komi), or 'package.module:function' that returns a game."""
    simulations: Count = 50
    """Simulations of the search for a move of self-play."""
    games: Count = 128
    """Games of a round."""
    table: Count = 64
    """Games that a worker plays side by side."""
    updates: Count = 50
    """Steps of the optimiser in a round."""
    batch: Count = 256
    """Positions of a step."""
    window: Count = 50_000
    """Newest positions that are learned from."""
    lr: Positive = 0.002
    """Step size."""
    momentum: Decay = 0.0
    """Momentum of stochastic gradient descent, 0.9 in the paper; 0: Adam."""
    lr_drops: tuple[int, ...] = ()
    """Steps of the optimiser after which the step size is divided by 10."""
    l2: NotNegative = 1e-4
    """Weight of the squared parameters in the loss."""
    temperature_moves: Whole = 30
    """Moves of a game of self-play that are drawn in proportion to visits; later ones are the most visited."""
    openings: Whole = 0
    """A game of self-play starts with 0 to this many random moves."""
    noise: NotNegative = 10.83
    """Dirichlet noise at the root has alpha = noise / moves of the game: 0.03 on 19 x 19, as in the paper; 0: no noise."""
    noise_share: Share = 0.25
    """Part of the root's prior that is noise."""
    c_init: Positive = 1.25
    """Exploration rate of the search at the first visits."""
    c_base: Threshold = 19652.0
    """Visits by which the exploration rate grows; inf: it stays, as in AlphaGo Zero."""
    width: Count = 256
    """Units of each layer, or filters of each convolution."""
    blocks: Whole = 1
    """Residual blocks."""
    convolutions: bool = False
    """The paper's convolutional tower in place of a perceptron."""
    symmetries: bool = True
    """Turn and mirror positions when they are learned from."""
    gate: Share = 0.0
    """Share of points above which new weights replace those that play, 0.55 in the paper; 0: they always do."""
    gate_games: Count = 400
    """Games by which the gate judges."""
    measure_every: Whole = 10
    """Rounds between two measurements of the strength; 0: only at the end."""
    eval_simulations: Count = 100
    """Simulations of the player that is measured."""
    anchors: tuple[int, ...] = (50, 200, 800)
    """Simulations of the opponents without a network in the arena; a random player is always there, and rated 0."""
    arena_openings: Whole = 10
    """Random openings in the arena, each played twice against every anchor; 0: no ratings."""
    arena_moves: Whole = 4
    """Random moves of an opening in the arena."""

    unit = "round"

    def begin(self, seed: int) -> State:
        """An untrained network, and no games yet.

        Raises:
            ValueError: there is no such game, or the settings do not fit it; one sentence.
        """
        game, anchors = named(self.env), len(self.anchors) + 1
        if any(n < 1 for n in self.anchors):
            raise ValueError(
                f"--anchors are numbers of simulations from 1 on, such as [50,200], not {min(self.anchors)}."
            )
        if self.arena_openings:
            self.arena(seed).starts()
        weights = weights_of(self.network(seed))
        none = Positions(game.observe(game.begin(0)), np.zeros((0, game.moves), np.float32), np.zeros(0, np.float32))
        return {
            **entries("weights", weights),
            **entries("best", weights if self.gate else Weights(*(part[:0] for part in weights))),
            **entries("average", Averages.begin(len(weights.parameters), self.momentum)),
            **entries("window", none),
            "games": 0,
            "rounds": np.zeros(0, np.int64),
            "strength": np.zeros(0),
            "ladder": np.zeros((anchors, anchors, 0, 2)),
            "points": np.zeros((0, anchors, self.arena_openings, 2)),
        }

    def network(self, seed: int) -> PolicyValue:
        """The untrained network."""
        return networks.begin(named(self.env), self.width, self.blocks, self.convolutions, seed)

    def player(self, weights: Weights, simulations: int) -> Player:
        """Who plays with these weights."""
        net = self.network(0)
        load(net, weights)
        return Player(Evaluator(named(self.env), net), Search(simulations, self.c_init, self.c_base, self.noise_share))

    def trained(self, state: State) -> Player:
        """Who plays with the weights of a state as it is measured."""
        return self.player(self.playing(state), self.eval_simulations)

    def playing(self, state: State) -> Weights:
        """The weights that play: the newest, or with a gate the best."""
        return taken(state, "best" if self.gate else "weights", Weights)

    def arena(self, seed: int) -> Arena:
        """The arena of a run."""
        return Arena(named(self.env), self.anchors, self.arena_openings, self.arena_moves, seed)

    def advance(self, state: State, step: int, seed: int, crew: Crew) -> dict[str, float]:
        """One round: games, updates, with a gate the match against the weights that played, and now and then a measurement."""
        game, player = named(self.env), self.player(self.playing(state), self.simulations)
        how = Manner(player.search, self.temperature_moves, self.noise / game.moves, self.openings)
        work = functools.partial(played, game, player.evaluate, how, (seed, step))
        tables = crew.map(work, shards(self.games, self.table))
        positions = taken(state, "window", Positions).then([t.positions for t in tables], self.window)
        weights, averages, metrics = self.learned(state, positions, step, seed)
        new = entries("weights", weights) | entries("average", averages) | entries("window", positions)
        new["games"] = state["games"] + self.games
        if self.gate:
            metrics["gate_score"] = self.gate_score(weights, player, step, seed, crew)
            if metrics["gate_score"] > self.gate:
                new |= entries("best", weights)
        if self.measure_every and (step + 1) % self.measure_every == 0:
            found = self.strength(state | new, seed, crew)
            new |= {"rounds": np.append(state["rounds"], step + 1), "ladder": found.ladder}
            new["strength"] = np.append(state["strength"], found.value)
            new["points"] = np.concatenate([state["points"], found.points[None]])
            metrics |= found.metrics
        state.update(new)
        return metrics | summary(tables) | {"games": float(state["games"])}

    def learned(
        self, state: State, positions: Positions, step: int, seed: int
    ) -> tuple[Weights, Averages, dict[str, float]]:
        """The weights after a round's updates, what the optimiser keeps, and the losses."""
        game, net = named(self.env), self.network(0)
        load(net, taken(state, "weights", Weights))
        averages = Averages(*(part.copy() for part in taken(state, "average", Averages)))
        how = Steps(self.batch, self.lr, self.momentum, self.l2, self.lr_drops)
        symmetries = game.symmetries if self.symmetries else game.symmetries[:1]
        rng, done = generator(seed, step, LEARNING), step * self.updates
        with one_thread():
            found = learn(net, positions, symmetries, how, averages, done, self.updates, rng)
        return weights_of(net), averages, found

    def gate_score(self, weights: Weights, old: Player, step: int, seed: int, crew: Crew) -> float:
        """The share of points of new weights against those that played, from random openings, as they play in self-play."""
        arena = Arena(named(self.env), (), max(self.table // 2, 1), self.arena_moves, seed)
        work = functools.partial(versus, arena, self.player(weights, self.simulations), old, (step, GATE))
        pairs = -(-self.gate_games // (2 * arena.openings))
        return float(np.mean(crew.map(work, range(pairs))))

    def strength(self, state: State, seed: int, crew: Crew) -> Strength:
        """How strong the weights that play are."""
        return measured(self.trained(state), self.arena(seed), state["ladder"], crew)

    def result(self, state: State, seed: int, crew: Crew) -> dict[str, float]:
        """losing_lines of tic-tac-toe, value_kept in connect-4; the rating with its 95% interval; the games of training."""
        return self.strength(state, seed, crew).metrics | {"games": float(state["games"])}

    def pictures(self, state: State, folder: Path) -> None:
        """elo.png and strength.png over the rounds in which they were measured, and game.png: a game of the network against itself."""
        from ray_jobs.self_play import pictures

        rounds, arena = state["rounds"], self.arena(0)
        if len(rounds) and self.arena_openings:
            found = [arena.rating(state["ladder"], points) for points in state["points"]]
            anchors = dict(zip(arena.names, found[0][1], strict=True))
            pictures.elo(rounds, [rating for rating, _ in found], anchors, folder / "elo.png")
        if len(rounds) and (measure := measure_of(named(self.env))):
            pictures.strength(rounds, state["strength"], measure.name, folder / "strength.png")
        self.sample(state, 1, 0, folder, "game")

    def sample(self, state: State, n: int, seed: int, folder: Path, name: str) -> Path:
        """Games of the network against itself: <name>.txt has one in each line, of Go <name>.sgf has all; <name>.png shows the first.

        The first `arena_moves` moves are drawn in proportion to visits, so that games differ.
        """
        from ray_jobs.run.files import write
        from ray_jobs.self_play import pictures, records
        from ray_jobs.self_play.diagrams import diagrams

        game = named(self.env)
        games = recorded(game, self.trained(state), n, self.arena_moves, generator(seed, SHOWN))
        write(
            folder / f"{name}{records.suffix(game)}", "".join(records.text(game, record) for record in games).encode()
        )
        if isinstance(game, Go):
            return diagrams(game, games[0].moves, folder / f"{name}.png")
        return pictures.game(game, games[0], folder / f"{name}.png")


def shards(games: int, size: int) -> list[range]:
    """The games of each table."""
    return [range(first, min(first + size, games)) for first in range(0, games, size)]


def entries(prefix: str, parts: Any) -> State:
    """A named tuple of arrays as entries of a state."""
    return {f"{prefix}_{name}": np.ascontiguousarray(part) for name, part in parts._asdict().items()}


def taken(state: State, prefix: str, kind: type[Parts]) -> Parts:
    """The named tuple that `entries` wrote into a state."""
    return kind(*(state[f"{prefix}_{name}"] for name in kind._fields))  # type: ignore[attr-defined]
