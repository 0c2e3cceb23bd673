"""The verb `reprise play`: a person, or a Go program, plays against the network of a run of self-play."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ray_jobs.errors import UsageError
from ray_jobs.play.person import First, Table, converse
from ray_jobs.recipe.loading import engine, recipe
from ray_jobs.recipe.process import State, generator
from ray_jobs.run.files import write
from ray_jobs.run.folder import Run
from ray_jobs.self_play import records
from ray_jobs.self_play.games.game import Game, Moves
from ray_jobs.self_play.games.go import Go
from ray_jobs.self_play.games.named import named
from ray_jobs.self_play.gtp.client import Engine, versus
from ray_jobs.self_play.gtp.engine import serve
from ray_jobs.self_play.players import Player
from ray_jobs.train import studies
from ray_jobs.train.earlier import current_spec
from ray_jobs.train.inspect import remark

OURS = "Reprise"
"""The network's name in records."""
Chooses = Callable[[Game[Any], Any], Moves]


@runtime_checkable
class Playing(Protocol):
    """A process that trains a player of a game."""

    env: str
    """The game, as `games.named` reads it."""

    def trained(self, state: State) -> Player:
        """Who plays with what a state has learned, without noise."""
        ...


def play(
    run: str,
    *,
    first: First = "me",
    simulations: int | None = None,
    seed: int = 0,
    record: str = "",
    gtp: bool = False,
    against: str = "",
    games: int = 2,
    timeout: float = 60.0,
) -> None:
    """Play against a network that learned a game by self-play.

    You type moves in the terminal; the network plays its most visited move. 'help' lists what you can type besides moves.

    Args:
        run: the run folder.
        first: who moves first, me or it.
        simulations: of the search for each move; by default as many as when the run's strength is measured; 0 plays at random.
        seed: of random moves.
        record: file for the game, written at its end: SGF of Go, else a line of text.
        gtp: answer the Go Text Protocol on the standard streams, for Go interfaces.
        against: command line of a Go program that plays against the network, such as 'gnugo --mode gtp --chinese-rules'.
        games: how many against that program; the network has Black and White in turn.
        timeout: seconds that the program has for each of its moves.

    Raises:
        UsageError: the run has no player or no checkpoint, or its game is not Go where a Go program is to play.
        Failed: the Go program dies, hangs or makes an illegal move.
    """
    if simulations is not None and simulations < 0:
        raise UsageError(f"--simulations must be at least 0, not {simulations}.")
    if games < 1 or timeout <= 0:
        raise UsageError(f"--games and --timeout must be above 0, not {games} and {timeout:g}.")
    if gtp and against:
        raise UsageError("--gtp lets another program start the games, --against starts them: give one of both.")
    opened = Run.open(run)
    game, choose = loaded(opened, simulations, seed)
    remark(opened)
    if not (gtp or against):
        _with_a_person(Table(game, choose, first), record)
    elif not isinstance(game, Go):
        raise UsageError(f"{'--gtp' if gtp else '--against'} is for Go, and {opened} plays {game.name}.")
    elif gtp:
        serve(game, choose, version("reprise"), sys.stdin, sys.stdout)
    else:
        _with_a_program(game, choose, against, games, timeout, record)


def loaded(run: Run, simulations: int | None = None, seed: int = 0) -> tuple[Game[Any], Chooses]:
    """The game of a run, and the moves of its newest checkpoint.

    Args:
        simulations: of the search; None: as the run measures its player.
        seed: of random moves.

    Raises:
        UsageError: the run is not of self-play, or has no checkpoint.
    """
    spec = current_spec(run)
    process = studies.built(spec).process if engine(recipe(spec.recipe)) is studies else None
    if not isinstance(process, Playing):
        raise UsageError(f"{run} has nobody to play against: {spec.recipe} does not learn a game by self-play.")
    found = run.trained(studies.FIELDS)
    player = process.trained(studies.restored(run, studies.built(spec), spec, found))
    if simulations is not None:
        player = player._replace(search=player.search._replace(simulations=simulations))
    rng = generator(seed)
    return named(process.env), lambda game, states: player.move(game, states, rng)


def _with_a_person(table: Table, to: str) -> None:
    """A game against a person, which is kept where it ends."""
    if (ended := converse(table, _line)) and to:
        _keep(to, [records.text(table.game, *ended, _names("a person", black=table.mine == 0))])


def _with_a_program(game: Go, choose: Chooses, command: str, games: int, timeout: float, to: str) -> None:
    """Games against a program, and their results."""
    texts, points = list[str](), 0.0
    with Engine(command, timeout) as program:
        for number in range(games):
            black = number % 2 == 0
            record, result = versus(program, game, choose, black=black)
            points += (1 + (record.outcome if black else -record.outcome)) / 2
            texts.append(records.text(game, record, result, _names(program.name, black=not black)))
            print(
                f"game {number + 1}: {'Black' if black else 'White'}, {result}, {len(record.moves)} moves", flush=True
            )
        print(f"{points:g} of {games} points against {program.name}")
    if to:
        _keep(to, texts)


def _line(prompt: str) -> str:
    """A line that the person types; `input` would miss a Ctrl-C that comes right after its prompt.

    Raises:
        EOFError: the input has ended.
    """
    print(prompt, end="", flush=True)
    if not (line := sys.stdin.readline()):
        raise EOFError
    return line


def _names(other: str, *, black: bool) -> tuple[str, str]:
    """The players of a game against the network, Black first."""
    return (other, OURS) if black else (OURS, other)


def _keep(to: str, texts: Sequence[str]) -> None:
    """Write games to a file, one after another."""
    path = Path(to)
    write(path, "".join(texts).encode())
    print(path)
