"""Games of k stones in a row: tic-tac-toe and connect-4."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_jobs.self_play.games.game import Flags, Moves, States, Symmetry


@dataclass(frozen=True, eq=False)
class Boards(States):
    """Boards as the player to move sees them."""

    cells: NDArray[np.int8]
    """[B, rows * columns], row by row from the top: 1 is a stone of the player to move, -1 one of the opponent's, 0 nothing."""


@dataclass(frozen=True)
class InARow:
    """k stones in a row, a column or a diagonal win; a full board is a draw."""

    name: str
    rows: int
    columns: int
    k: int
    gravity: bool = False
    """Whether stones fall to the lowest free cell of a column: a move is then a column, otherwise a cell."""

    planes = 2
    """The stones of the player to move, and the opponent's."""

    @property
    def cells(self) -> int:
        """Cells of the board."""
        return self.rows * self.columns

    @property
    def moves(self) -> int:
        """See `Game.moves`."""
        return self.columns if self.gravity else self.cells

    @functools.cached_property
    def lines(self) -> NDArray[np.float32]:
        """Which cells are in each of the L lines of k [cells, L]."""
        found = []
        for row in range(self.rows):
            for column in range(self.columns):
                for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                    last_row, last_column = row + (self.k - 1) * down, column + (self.k - 1) * right
                    if last_row < self.rows and 0 <= last_column < self.columns:
                        found.append([(row + i * down) * self.columns + column + i * right for i in range(self.k)])
        within = np.zeros((self.cells, len(found)), np.float32)
        within[np.array(found).T, np.arange(len(found))] = 1
        return within

    @functools.cached_property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """See `Game.symmetries`: two with gravity or on a rectangle, else eight."""
        board = np.arange(self.cells).reshape(self.rows, self.columns)
        turned = [board, board[:, ::-1]]
        if self.rows == self.columns and not self.gravity:
            turned = [np.rot90(b, n) for b in turned for n in range(4)]
        cells = [b.ravel().copy() for b in turned]
        return tuple(Symmetry(c, c[: self.columns] if self.gravity else c) for c in cells)

    def begin(self, games: int) -> Boards:
        """See `Game.begin`."""
        return Boards(np.zeros((games, self.cells), np.int8))

    def legal(self, states: Boards) -> Flags:
        """See `Game.legal`. With gravity, the top row shows which columns have room."""
        return states.cells[:, : self.moves] == 0

    def play(self, states: Boards, moves: Moves) -> Boards:
        """See `Game.play`."""
        every, cell = np.arange(len(moves)), moves
        if self.gravity:
            free = (states.cells.reshape(-1, self.rows, self.columns)[every, :, moves] == 0).sum(1)
            cell = (free - 1) * self.columns + moves
        after = -states.cells
        after[every, cell] = -1
        return Boards(after)

    def beaten(self, states: Boards) -> Flags:
        """Whether the opponent, who has just moved, has a line [B]."""
        return (states.cells.astype(np.float32) @ self.lines == -self.k).any(1)

    def over(self, states: Boards) -> Flags:
        """See `Game.over`."""
        return self.beaten(states) | (states.cells != 0).all(1)

    def outcome(self, states: Boards) -> NDArray[np.int8]:
        """See `Game.outcome`: nobody wins by the opponent's move."""
        return -self.beaten(states).astype(np.int8)

    def observe(self, states: Boards) -> NDArray[np.int8]:
        """See `Game.observe`."""
        seen = np.stack([states.cells == 1, states.cells == -1], 1)
        return seen.reshape(-1, 2, self.rows, self.columns).astype(np.int8)

    def stones(self, states: Boards) -> NDArray[np.int8]:
        """See `Game.stones`: with an even number of stones the player who began is to move."""
        sign = 1 - 2 * ((states.cells != 0).sum(1, keepdims=True) % 2)
        return (sign * states.cells).astype(np.int8).reshape(-1, self.rows, self.columns)

    def drawing(self, states: Boards) -> str:
        """See `Game.drawing`: X began."""
        board = self.stones(states[:1])[0]
        lines = [" ".join({1: "X", -1: "O", 0: "."}[int(c)] for c in row) for row in board]
        if self.gravity:
            return "\n".join([*lines, " ".join(str(c + 1) for c in range(self.columns))])
        numbered = [f"{self.rows - i} {line}" for i, line in enumerate(lines)]
        return "\n".join([*numbered, "  " + " ".join(chr(97 + c) for c in range(self.columns))])

    def format(self, move: int) -> str:
        """See `Game.format`: a column from 1 on, or a cell such as a1, which is at the bottom left."""
        if self.gravity:
            return str(move + 1)
        row, column = divmod(move, self.columns)
        return f"{chr(97 + column)}{self.rows - row}"

    def parse(self, text: str) -> int:
        """See `Game.parse`."""
        names = [self.format(move) for move in range(self.moves)]
        if (word := text.strip().lower()) in names:
            return names.index(word)
        kind = f"column from 1 to {self.moves}" if self.gravity else f"cell from a1 to {names[self.columns - 1]}"
        raise ValueError(f"'{text.strip()}' is no move of {self.name}: write a {kind}.")


TIC_TAC_TOE = InARow("tictactoe", 3, 3, 3)
CONNECT_4 = InARow("connect4", 6, 7, 4, gravity=True)
