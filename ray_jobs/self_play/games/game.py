"""Games of two players who move in turns, with perfect information and without chance: what a game is. Many are played at once.

Positions are `States`: arrays whose first axis is the game, so that one call moves all of them. Everything is seen by the player to move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Moves = NDArray[np.int64]
"""[B], from 0 to `Game.moves` - 1."""
Flags = NDArray[np.bool_]
"""[B], or [B, moves]."""
Rows = NDArray[Any] | slice
"""What picks games: indices, a mask [B] or a slice."""


@dataclass(frozen=True, eq=False)
class States:
    """Positions of B games; a game's own class is a frozen dataclass (eq=False), all of whose fields are arrays with first axis B."""

    def __len__(self) -> int:
        return len(next(iter(vars(self).values())))

    def __getitem__(self, rows: Rows) -> Self:
        return type(self)(*(part[rows] for part in vars(self).values()))

    def put(self, rows: Rows, states: Self) -> None:
        """Write other positions over those of `rows`, in place."""
        for name, part in vars(self).items():
            part[rows] = getattr(states, name)

    def room(self, n: int) -> Self:
        """Zeros for n positions of the same kind."""
        return type(self)(*(np.zeros((n, *part.shape[1:]), part.dtype) for part in vars(self).values()))


S = TypeVar("S", bound=States)


class Symmetry(NamedTuple):
    """A turn or reflection of the board that leaves the rules as they are."""

    cells: NDArray[np.int64]
    """Cell i of the new board is cell cells[i] of the old one [rows * columns]."""
    moves: NDArray[np.int64]
    """Move i on the new board is move moves[i] on the old one [moves]."""


class Game(Protocol[S]):
    """The rules of a game. A frozen dataclass that can be pickled and hashed; it holds no position."""

    @property
    def name(self) -> str:
        """As settings write it: connect4."""
        ...

    @property
    def rows(self) -> int:
        """Rows of the board."""
        ...

    @property
    def columns(self) -> int:
        """Columns of the board."""
        ...

    @property
    def moves(self) -> int:
        """How many moves there are, legal or not, a pass included."""
        ...

    @property
    def planes(self) -> int:
        """Planes of an observation."""
        ...

    @property
    def symmetries(self) -> Sequence[Symmetry]:
        """All symmetries, of which the first changes nothing."""
        ...

    def begin(self, games: int) -> S:
        """The first position of so many games."""
        ...

    def legal(self, states: S) -> Flags:
        """Which moves are legal [B, moves]; of a finished game the answer does not matter."""
        ...

    def play(self, states: S, moves: Moves) -> S:
        """The positions after legal moves [B], for the other player; the given states stay as they are."""
        ...

    def over(self, states: S) -> Flags:
        """Whether games are finished [B]."""
        ...

    def outcome(self, states: S) -> NDArray[np.int8]:
        """Of finished games [B], for the player who would be to move: 1 won, 0 drawn, -1 lost. Of others it does not matter."""
        ...

    def observe(self, states: S) -> NDArray[np.int8]:
        """What a network sees [B, planes, rows, columns], in whole numbers (mostly 0 and 1), so that many positions fit in memory."""
        ...

    def stones(self, states: S) -> NDArray[np.int8]:
        """The board [B, rows, columns], row 0 at the top: 1 is a stone of the player who began, -1 one of the other, 0 nothing."""
        ...

    def drawing(self, states: S) -> str:
        """The first of the positions as text."""
        ...

    def format(self, move: int) -> str:
        """A move as players write it: b2, or pass."""
        ...

    def parse(self, text: str) -> int:
        """The move that a player has written, legal or not.

        Raises:
            ValueError: it is no move of this game; one sentence that says how moves are written.
        """
        ...
