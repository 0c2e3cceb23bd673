"""Go programs as opponents: a process that answers the Go Text Protocol on its streams, such as GNU Go.

Source: Farnebaeck, Specification of the Go Text Protocol, version 2, draft 2 (2002).
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import numpy as np

from ray_jobs.errors import Failed, UsageError, shortened
from ray_jobs.self_play.games.game import Moves
from ray_jobs.self_play.games.go import Go, Positions
from ray_jobs.self_play.records import Record, illegal

GNU_GO = "gnugo --mode gtp --chinese-rules --positional-superko --capture-all-dead --never-resign --level {level} --seed {seed}"
"""Options with which GNU Go plays by our rules."""
PATIENCE = 2.0
"""Seconds that an engine has to end after it was asked to quit."""
BLACK, WHITE = "black", "white"
Choose = Callable[[Go, Positions], Moves]
"""Moves for positions that are not finished [B]."""


class Engine:
    """A running Go program. Used as a context manager, which ends the program."""

    def __init__(self, command: str, timeout: float = 60.0) -> None:
        """Start the program.

        Args:
            command: its command line, as in a shell.
            timeout: seconds that it has for each answer.

        Raises:
            UsageError: it cannot be started.
        """
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"The command of a Go engine is no command line ({error}): {shortened(command)}") from None
        if not words:
            raise UsageError("The command of a Go engine is empty: give one such as 'gnugo --mode gtp'.")
        self.name, self.timeout, self._heard = os.path.basename(words[0]), timeout, b""
        self._complaints = tempfile.TemporaryFile()
        try:
            self.process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints, bufsize=0
            )
        except OSError as error:
            self._complaints.close()
            why = error.strerror or error
            raise UsageError(
                f"The Go engine {shortened(words[0])} cannot be started ({why}): install it, or give its path."
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ask the program to quit; end it where it does not."""
        with contextlib.suppress(OSError):
            self._write("quit")
            self.process.stdin.close()  # type: ignore[union-attr]  # a pipe
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._complaints):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]  # both are pipes

    def ask(self, *words: str) -> str:
        """The answer to a command.

        Raises:
            Failed: the program refuses it, has ended, or does not answer in time; one sentence.
        """
        command = " ".join(words)
        try:
            self._write(command)
            answer = self._answer(command)
        except BrokenPipeError:
            raise self._ended(command) from None
        if answer.startswith("?"):
            raise Failed(
                f"The Go engine {self.name} refuses '{command}': {shortened(_body(answer)) or 'no reason given'}."
            )
        return _body(answer)

    def begin(self, game: Go) -> None:
        """Start a game on an empty board.

        Raises:
            Failed: the program does not take the board's size or the komi; or as `ask`.
        """
        self.ask("boardsize", str(game.size))
        self.ask("clear_board")
        self.ask("komi", f"{game.komi:g}")

    def play(self, game: Go, states: Positions, move: int) -> None:
        """Make a move on the program's board.

        Raises:
            Failed: as `ask`.
        """
        self.ask("play", colour(states), game.format(move))

    def generate(self, game: Go, states: Positions) -> int | None:
        """The program's own move in a position, which is also its board's; None: it resigns.

        Raises:
            Failed: it is no legal move; or as `ask`.
        """
        text = self.ask("genmove", colour(states))
        if text.lower() == "resign":
            return None
        try:
            move = game.parse(text)
        except ValueError as error:
            raise Failed(f"The Go engine {self.name} played {shortened(text)!r}: {error}") from None
        if not game.legal(states)[0, move]:
            raise Failed(f"The Go engine {self.name} made an illegal move: {illegal(game, states, move)}")
        return move

    def _write(self, command: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{command}\n".encode())

    def _answer(self, command: str) -> str:
        """The next answer, without its last empty line; what is no answer is passed over."""
        assert self.process.stdout
        deadline = time.monotonic() + self.timeout
        while True:
            text = self._heard.replace(b"\r", b"").lstrip(b"\n\t ")
            answer, end, rest = text.partition(b"\n\n")
            if end:
                self._heard = rest
                if answer.startswith((b"=", b"?")):
                    return answer.decode(errors="replace").strip()
                continue
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                self.process.kill()
                raise Failed(
                    f"The Go engine {self.name} has not answered '{command}' within {self.timeout:g} s: it hangs or is too slow."
                )
            if not (more := os.read(self.process.stdout.fileno(), 65536)):
                raise self._ended(command)
            self._heard += more

    def _ended(self, command: str) -> Failed:
        """The sentence about a program that has ended, with the last line of its complaints."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        last = f": {shortened(lines[-1])}" if lines else ""
        code = self.process.poll()
        how = "closed its output" if code is None else f"ended with code {code}"
        return Failed(f"The Go engine {self.name} {how} at '{command}'{last}.")


def colour(states: Positions) -> str:
    """Who is to move in the first position."""
    return WHITE if states.ply[0] % 2 else BLACK


def versus(engine: Engine, game: Go, choose: Choose, *, black: bool, opening: Sequence[int] = ()) -> tuple[Record, str]:
    """One game of a player against an engine.

    Args:
        choose: the player.
        black: whether the player has the black stones.
        opening: moves that both start from.

    Returns:
        the record, and the result as SGF writes it: B+3.5, W+R.

    Raises:
        Failed: the engine ends, hangs, refuses a command or makes an illegal move; one sentence.
    """
    engine.begin(game)
    states, moves = game.begin(1), list[int]()
    while not game.over(states)[0]:
        move: int | None
        if len(moves) < len(opening):
            move = opening[len(moves)]
            engine.play(game, states, move)
        elif (colour(states) == BLACK) == black:
            move = int(choose(game, states)[0])
            engine.play(game, states, move)
        else:
            move = engine.generate(game, states)
        if move is None:
            return Record(tuple(moves), 1 if black else -1), "B+R" if black else "W+R"
        moves.append(move)
        states = game.play(states, np.array([move]))
    return Record(tuple(moves), int(np.sign(game.score(states)[0]))), game.result(states)


def _body(answer: str) -> str:
    """An answer without its mark and its number."""
    return answer[1:].lstrip("0123456789").strip()


def gnu_go(level: int = 10, seed: int = 1) -> str:
    """The command line of GNU Go at a level."""
    return GNU_GO.format(level=level, seed=seed)
