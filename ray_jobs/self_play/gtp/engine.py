"""The trained player as a Go engine: it answers the Go Text Protocol, version 2, so that any Go interface can play against it.

Source: Farnebaeck, Specification of the Go Text Protocol, version 2, draft 2 (2002).
Differs: where a colour plays twice in a row, the other one passes in between, because positions know who is to move; such a pass
does not end a game.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from typing import TextIO

import numpy as np

from ray_jobs.self_play.games.go import Go, Positions
from ray_jobs.self_play.gtp.client import BLACK, WHITE, Choose, colour
from ray_jobs.self_play.records import illegal

COLOURS = {"b": BLACK, "black": BLACK, "w": WHITE, "white": WHITE}


class Refused(Exception):
    """A command that cannot be carried out, in GTP's words."""


class Server:
    """A board, and the answers to commands about it."""

    def __init__(self, game: Go, choose: Choose, version: str) -> None:
        self.game, self.choose, self.version = game, choose, version
        self.past: list[Positions] = [game.begin(1)]
        """All positions of the game."""
        self.commands: Mapping[str, Callable[..., str]] = {
            "protocol_version": lambda: "2",
            "name": lambda: "Reprise",
            "version": lambda: self.version,
            "known_command": lambda name: str(name in self.commands).lower(),
            "list_commands": lambda: "\n".join(self.commands),
            "boardsize": self.boardsize,
            "clear_board": self.clear_board,
            "komi": self.komi,
            "play": self.play,
            "genmove": self.genmove,
            "undo": self.undo,
            "final_score": lambda: self.game.result(self.past[-1]),
            "showboard": lambda: f"\n{self.game.drawing(self.past[-1])}",
            "quit": lambda: "",
        }

    def answer(self, line: str) -> str:
        """The answer to a line, with GTP's mark and end; '' to a line without a command."""
        words = re.sub(r"[^\t\x20-\x7e]", "", line.partition("#")[0]).split()
        number = words.pop(0) if words and words[0].isdigit() else ""
        if not words:
            return ""
        try:
            return f"={number} {self._done(*words)}".rstrip() + "\n\n"
        except Refused as error:
            return f"?{number} {error}\n\n"

    def boardsize(self, size: str) -> str:
        """Take the size of the network's board, no other."""
        if size != str(self.game.size):
            raise Refused(f"unacceptable size: the network plays on {self.game.size} lines")
        return self.clear_board()

    def clear_board(self) -> str:
        """Begin a game."""
        self.past = [self.game.begin(1)]
        return ""

    def komi(self, komi: str) -> str:
        """Set the komi; the network was trained with its own."""
        try:
            self.game = dataclasses.replace(self.game, komi=float(komi))
        except ValueError:
            raise Refused("syntax error: the komi is a number such as 7.5") from None
        return ""

    def play(self, who: str, text: str) -> str:
        """Make a move of either colour."""
        states = self._turn(who)
        try:
            move = self.game.parse(text)
        except ValueError as error:
            raise Refused(f"illegal move: {error}") from None
        if states.ply[0] >= self.game.longest:
            raise Refused(f"illegal move: the game has ended after {self.game.longest} moves")
        if not self.game.legal(states)[0, move]:
            raise Refused(f"illegal move: {illegal(self.game, states, move)}")
        self.past.append(self.game.play(states, np.array([move])))
        return ""

    def genmove(self, who: str) -> str:
        """Make and show the player's own move; a finished game gets a pass."""
        states = self._turn(who)
        if self.game.over(states)[0]:
            return "pass"
        move = self.choose(self.game, states)
        self.past.append(self.game.play(states, move))
        return self.game.format(int(move[0]))

    def undo(self) -> str:
        """Take the last move back."""
        if len(self.past) == 1:
            raise Refused("cannot undo")
        self.past.pop()
        return ""

    def _done(self, name: str, *words: str) -> str:
        """The answer to a command's words."""
        if name not in self.commands:
            raise Refused("unknown command")
        command = self.commands[name]
        try:
            inspect.signature(command).bind(*words)
        except TypeError:
            raise Refused("syntax error: another number of words is needed") from None
        return command(*words)

    def _turn(self, who: str) -> Positions:
        """The position with this colour to move."""
        if who.lower() not in COLOURS:
            raise Refused("syntax error: a colour is black or white")
        states = self.past[-1]
        if colour(states) == COLOURS[who.lower()] or states.ply[0] >= self.game.longest:
            return states
        passed = self.game.play(states, np.array([self.game.cells]))
        return dataclasses.replace(passed, passes=np.zeros_like(passed.passes))


def serve(game: Go, choose: Choose, version: str, commands: TextIO, answers: TextIO) -> None:
    """Answer commands, one a line, until 'quit' or their end."""
    server = Server(game, choose, version)
    for line in commands:
        answers.write(text := server.answer(line))
        answers.flush()
        if text.startswith("=") and "quit" in line.split()[:2]:
            return
