"""A person plays against a trained network in the terminal: moves are typed, the board is printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ray_jobs.errors import shortened
from ray_jobs.self_play.games.game import Game, Moves, S
from ray_jobs.self_play.games.go import Go
from ray_jobs.self_play.players import Record
from ray_jobs.self_play.records import allowed, illegal

Read = Callable[[str], str]
"""Shows a prompt and reads a line; raises EOFError where there is none, KeyboardInterrupt at Ctrl-C."""
First = Literal["me", "it"]
HELP = """Type a move, or a word:
  moves   list the legal moves
  undo    take back your last move
  resign  give the game up
  quit    leave without a result"""


class Table:
    """One game between a person and a player, with all its positions."""

    def __init__(self, game: Game[Any], choose: Callable[[Game[Any], Any], Moves], first: First) -> None:
        self.game, self.choose, self.mine = game, choose, 0 if first == "me" else 1
        self.past, self.moves = [game.begin(1)], list[int]()

    @property
    def now(self) -> Any:
        """The position."""
        return self.past[-1]

    @property
    def over(self) -> bool:
        """Whether the game has ended by its rules."""
        return bool(self.game.over(self.now)[0])

    @property
    def my_turn(self) -> bool:
        """Whether the person is to move."""
        return len(self.moves) % 2 == self.mine

    @property
    def outcome(self) -> int:
        """Of a finished game, for the person: 1 won, 0 drawn, -1 lost."""
        return int(self.game.outcome(self.now)[0]) * (1 if self.my_turn else -1)

    def play(self, move: int) -> None:
        """Make a legal move."""
        self.past.append(self.game.play(self.now, np.array([move])))
        self.moves.append(move)

    def answer(self) -> int:
        """Let the player move; its move."""
        move = int(self.choose(self.game, self.now)[0])
        self.play(move)
        return move

    def undo(self) -> bool:
        """Take back the person's last move and what came after it; whether there was one."""
        mine = [i for i in range(len(self.moves)) if i % 2 == self.mine]
        if not mine:
            return False
        del self.moves[mine[-1] :], self.past[mine[-1] + 1 :]
        return True

    def record(self, resigned: bool) -> tuple[Record, str]:
        """The record, and the result as SGF writes it."""
        outcome = -1 if resigned else self.outcome
        first = outcome if self.mine == 0 else -outcome
        if resigned:
            return Record(tuple(self.moves), first), "B+R" if first == 1 else "W+R"
        return Record(tuple(self.moves), first), self.game.result(self.now) if isinstance(self.game, Go) else ""


def converse(table: Table, read: Read) -> tuple[Record, str] | None:
    """Play until the game ends or the person leaves, then None."""
    game = table.game
    stones = ("Black (X)", "White (O)") if isinstance(game, Go) else ("X", "O")
    print(
        f"{game.name}: you have {stones[table.mine]} and move {('first', 'second')[table.mine]}. 'help' lists what you can type."
    )
    try:
        while not table.over:
            if table.my_turn:
                print(f"\n{game.drawing(table.now)}")
                if not _asked(table, read):
                    return _resigned(table)
            else:
                print(f"I play {game.format(table.answer())}.")
    except (EOFError, KeyboardInterrupt):
        print("\nYou have left the game.")
        return None
    print(f"\n{game.drawing(table.now)}")
    record, score = table.record(resigned=False)
    points = f" ({score})" if score else ""
    print({1: "You have won", 0: "A draw", -1: "I have won"}[table.outcome] + f"{points}.")
    return record, score


def _asked(table: Table, read: Read) -> bool:
    """Ask until the person has moved or taken back; False: the person resigns.

    Raises:
        EOFError: the person leaves.
    """
    while True:
        word = read("Your move: ").strip()
        match word.lower():
            case "":
                continue
            case "help" | "?":
                print(HELP)
            case "moves":
                print(allowed(table.game, table.now))
            case "quit" | "exit":
                raise EOFError
            case "resign":
                return False
            case "undo":
                if table.undo():
                    return True
                print("There is no move of yours to take back.")
            case _:
                if (move := _move(table.game, table.now, word)) is not None:
                    table.play(move)
                    return True


def _move(game: Game[S], states: S, word: str) -> int | None:
    """The legal move that was typed; None: there is none, and the person has read why."""
    try:
        move = game.parse(word)
    except ValueError:
        print(f"'{shortened(word)}' is no move. {allowed(game, states)} 'help' lists more.")
        return None
    if game.legal(states)[0, move]:
        return move
    print(illegal(game, states, move))
    return None


def _resigned(table: Table) -> tuple[Record, str]:
    print("You have resigned: I have won.")
    return table.record(resigned=True)
