"""Go on square boards, many games at once: area scoring, positional superko, no suicide.

Source: Tromp and Taylor, The game of Go (tromp.github.io/go.html): rules 4 to 9, area scoring; Silver et al. 2017
(doi:10.1038/nature24270), Methods: the observation of the last 8 boards, and the end after two passes or 2 n^2 moves.
Differs: suicide is forbidden, as in the Chinese rules. A position counts as seen where its 64-bit Zobrist key is: two different
positions of a game have the same key by an accident of about 2^-64.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_jobs.self_play.games.game import Flags, Moves, States, Symmetry

LETTERS = "ABCDEFGHJKLMNOPQRSTUVWXYZ"
"""Of columns; there is no I."""
SMALLEST, LARGEST = 2, len(LETTERS)
OFF = 2
"""The colour of what lies beyond the edge."""


@dataclass(frozen=True, eq=False)
class Positions(States):
    """Positions of Go. Cells are numbered row by row from the top left; 1 is a black stone, -1 a white one, 0 nothing."""

    recent: NDArray[np.int8]
    """The last boards, the newest first [B, history, n * n]; before the first move all are empty."""
    groups: NDArray[np.int16]
    """Of each stone the cell of that stone of its group which was played last; n * n where there is none [B, n * n + 1]."""
    keys: NDArray[np.uint64]
    """The key of the position after each move, 0 for moves to come [B, 2 n^2]."""
    ply: NDArray[np.int16]
    """Moves so far [B]."""
    passes: NDArray[np.int8]
    """Passes in a row just now [B]."""


@dataclass(frozen=True)
class Go:
    """Black begins. Two passes in a row, or 2 n^2 moves, end a game; the larger area wins."""

    size: int = 9
    """Lines of the board, n."""
    komi: float = 7.5
    """Points that White gets for moving second."""
    history: int = 8
    """Boards that an observation shows."""

    def __post_init__(self) -> None:
        if not SMALLEST <= self.size <= LARGEST:
            raise ValueError(f"A board of Go has from {SMALLEST} to {LARGEST} lines, not {self.size}.")
        if not math.isfinite(self.komi):
            raise ValueError(f"The komi is a number such as 7.5, not {self.komi}.")
        if not 1 <= self.history <= 8:
            raise ValueError(f"An observation of Go shows from 1 to 8 boards, not {self.history}.")

    @property
    def name(self) -> str:
        """See `Game.name`: go9; with another komi go9-5.5, with another history go9-5.5-2."""
        parts = [f"go{self.size}", f"{self.komi:g}", str(self.history)]
        return "-".join(parts[: 3 if self.history != Go.history else 2 if self.komi != Go.komi else 1])

    @property
    def rows(self) -> int:
        """See `Game.rows`."""
        return self.size

    @property
    def columns(self) -> int:
        """See `Game.columns`."""
        return self.size

    @property
    def cells(self) -> int:
        """Points of the board; as a move this number is the pass."""
        return self.size**2

    @property
    def moves(self) -> int:
        """See `Game.moves`: the points, and the pass, which is the last."""
        return self.cells + 1

    @property
    def longest(self) -> int:
        """Moves after which a game ends in any case."""
        return 2 * self.cells

    @property
    def planes(self) -> int:
        """See `Game.planes`: stones of both players on each of the recent boards, and the colour."""
        return 2 * self.history + 1

    @functools.cached_property
    def around(self) -> NDArray[np.int64]:
        """The four cells next to each cell, n * n for one beyond the edge; those of n * n itself are all beyond [n * n + 1, 4]."""
        board = np.full((self.size + 2, self.size + 2), self.cells)
        board[1:-1, 1:-1] = np.arange(self.cells).reshape(self.size, self.size)
        sides = board[:-2, 1:-1], board[2:, 1:-1], board[1:-1, :-2], board[1:-1, 2:]
        return np.vstack([np.stack([side.ravel() for side in sides], 1), np.full((1, 4), self.cells)])

    @functools.cached_property
    def zobrist(self) -> NDArray[np.uint64]:
        """The key of a black stone (1) or a white one (-1, that is the last row) on each cell; of nothing, and of a pass, it is 0."""
        drawn = np.random.Generator(np.random.PCG64(1970)).integers(1, 2**64, (3, self.moves), np.uint64)
        drawn[0] = drawn[:, self.cells] = 0
        return drawn

    @functools.cached_property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """See `Game.symmetries`: four turns, each with and without reflection."""
        board = np.arange(self.cells).reshape(self.size, self.size)
        turned = [np.rot90(side, quarters).ravel() for side in (board, board[:, ::-1]) for quarters in range(4)]
        return tuple(Symmetry(cells, np.append(cells, self.cells)) for cells in turned)

    def begin(self, games: int) -> Positions:
        """See `Game.begin`."""
        return Positions(
            np.zeros((games, self.history, self.cells), np.int8),
            np.full((games, self.moves), self.cells, np.int16),
            np.zeros((games, self.longest), np.uint64),
            np.zeros(games, np.int16),
            np.zeros(games, np.int8),
        )

    def legal(self, states: Positions) -> Flags:
        """See `Game.legal`. A move is legal where its stone has a liberty afterwards and the position is new; a pass always is."""
        mine = states.recent[:, 0] * to_move(states)[:, None]
        near = _beyond(mine, OFF)[:, self.around[:-1]]
        names = self._names(states)[:, self.around[:-1]]
        first = _first(names)
        liberties = np.bincount(names[first & (mine == 0)[..., None]], minlength=len(mine) * self.moves)
        of_near = liberties[names]
        takes = (near == -1) & (of_near == 1)
        breathes = (near == 0) | (near == 1) & (of_near > 1) | takes
        legal = np.ones((len(mine), self.moves), bool)
        legal[:, :-1] = (mine == 0) & breathes.any(-1)
        # a position comes again only after stones were captured, and then there are fewer stones than moves
        if ((mine != 0).sum(1) < states.ply).any():
            keys = self._keys_after(states, mine, liberties, names, takes & first)
            legal[:, :-1] &= ~_among(keys, states.keys[:, : states.ply.max()])
        return legal

    def play(self, states: Positions, moves: Moves) -> Positions:
        """See `Game.play`: place the stone, join the groups that it touches, remove the opponent's groups without liberties."""
        every, colour = np.arange(len(moves)), to_move(states)
        board, groups = _beyond(states.recent[:, 0], OFF), states.groups.copy()
        stone = moves < self.cells
        board[every[stone], moves[stone]] = colour[stone]
        groups[every[stone], moves[stone]] = moves[stone]
        sides = self.around[moves]
        for side in sides.T:
            joined = np.where(board[every, side] == colour, groups[every, side], -1)
            np.copyto(groups, moves[:, None].astype(np.int16), where=groups == joined[:, None])
        dead = self._without_liberties(board, groups) & (board == -colour[:, None])
        board[dead], groups[dead] = 0, self.cells
        lost = np.where(dead, self.zobrist[-colour], np.uint64(0))
        keys = states.keys.copy()
        keys[every, np.minimum(states.ply, self.longest - 1)] = (
            _newest(states) ^ self.zobrist[colour, moves] ^ np.bitwise_xor.reduce(lost, axis=1)
        )
        recent = np.concatenate([board[:, None, :-1], states.recent[:, :-1]], 1)
        passes = np.where(stone, 0, states.passes + 1).astype(np.int8)
        return Positions(recent, groups, keys, states.ply + np.int16(1), passes)

    def over(self, states: Positions) -> Flags:
        """See `Game.over`."""
        return (states.passes >= 2) | (states.ply >= self.longest)

    def outcome(self, states: Positions) -> NDArray[np.int8]:
        """See `Game.outcome`: the larger area wins."""
        result = np.zeros(len(states), np.int8)
        [rows] = np.nonzero(self.over(states))
        if len(rows):
            result[rows] = np.sign(self.score(states[rows])) * to_move(states)[rows]
        return result

    def score(self, states: Positions) -> NDArray[np.float64]:
        """Black's area less White's and the komi [B]; a player's area is its stones, and the empty points that reach no others.

        Source: Tromp and Taylor, rules 3 and 9. All stones on the board count as alive.
        """
        board = states.recent[:, 0].reshape(-1, self.size, self.size)
        black, white = (_reached(board == colour, board == 0) for colour in (1, -1))
        area = (black & ~white).sum((1, 2)) - (white & ~black).sum((1, 2))
        return area - self.komi

    def result(self, states: Positions) -> str:
        """The score of the first position, as SGF and GTP write it: B+3.5, W+0.5, or 0 for a draw."""
        score = float(self.score(states[:1])[0])
        return f"{'B' if score > 0 else 'W'}+{abs(score):g}" if score else "0"

    def observe(self, states: Positions) -> NDArray[np.int8]:
        """See `Game.observe`: of each recent board the stones of the player to move and those of the opponent; ones for Black to move.

        Source: Silver et al. 2017, Methods, 'Neural network architecture': X_t, Y_t, X_t-1, Y_t-1, ..., C.
        """
        colour = to_move(states)
        seen = states.recent * colour[:, None, None]
        planes = np.empty((len(seen), self.planes, self.cells), np.int8)
        planes[:, 0:-1:2], planes[:, 1:-1:2] = seen == 1, seen == -1
        planes[:, -1] = (colour == 1)[:, None]
        return planes.reshape(-1, self.planes, self.size, self.size)

    def stones(self, states: Positions) -> NDArray[np.int8]:
        """See `Game.stones`."""
        return states.recent[:, 0].reshape(-1, self.size, self.size)

    def drawing(self, states: Positions) -> str:
        """See `Game.drawing`: X is Black."""
        rows = [" ".join(".XO"[stone] for stone in row) for row in self.stones(states[:1])[0]]
        letters = " ".join(LETTERS[: self.size])
        return "\n".join([*(f"{self.size - i:2} {row}" for i, row in enumerate(rows)), f"   {letters}"])

    def format(self, move: int) -> str:
        """See `Game.format`: D4 is in the fourth column from the left and the fourth row from below."""
        if move == self.cells:
            return "pass"
        row, column = divmod(move, self.size)
        return f"{LETTERS[column]}{self.size - row}"

    def parse(self, text: str) -> int:
        """See `Game.parse`."""
        names = [self.format(move).lower() for move in range(self.moves)]
        if (word := text.strip().lower()) in names:
            return names.index(word)
        corner = self.format(self.size - 1)
        raise ValueError(
            f"'{text.strip()}' is no move of Go: write a point from A1 to {corner} (there is no I), or pass."
        )

    def _names(self, states: Positions) -> NDArray[np.int64]:
        """A number for the group of each cell, which groups of other games do not have [B, n * n + 1]."""
        return (np.arange(len(states)) * self.moves)[:, None] + states.groups

    def _without_liberties(self, board: NDArray[np.int8], groups: NDArray[np.int16]) -> Flags:
        """Whether a cell belongs to a group without liberties [B, n * n + 1]; of cells without a stone the answer does not matter."""
        alive = np.zeros(groups.shape, bool)
        games, cells = np.nonzero((board == 0)[:, self.around].any(-1))
        alive[games, groups[games, cells]] = True
        return ~alive[np.arange(len(groups))[:, None], groups]

    def _keys_after(
        self,
        states: Positions,
        mine: NDArray[np.int8],
        liberties: NDArray[np.int64],
        names: NDArray[np.int64],
        taken: Flags,
    ) -> NDArray[np.uint64]:
        """The key of the position after a stone on each cell [B, n * n].

        Args:
            mine: the board: 1 is a stone of the player to move, -1 one of the opponent's.
            liberties: of each group, by its name.
            names: of the groups next to each cell [B, n * n, 4].
            taken: whether such a group is captured by a stone there, each group once [B, n * n, 4].
        """
        colour, groups = to_move(states), self._names(states)[:, :-1]
        of_group = np.zeros(len(liberties), np.uint64)
        games, cells = np.nonzero((mine == -1) & (liberties[groups] == 1))
        np.bitwise_xor.at(of_group, groups[games, cells], self.zobrist[-colour[games], cells])
        keys = _newest(states)[:, None] ^ self.zobrist[colour, :-1]
        sides = np.flatnonzero(taken)
        np.bitwise_xor.at(keys.reshape(-1), sides // 4, of_group[names.reshape(-1)[sides]])
        return keys


def by_name(name: str) -> Go | None:
    """The game of a name such as go9, go9-5.5 or go9-5.5-2: lines, komi and history; None: it is no name of a game of Go.

    Raises:
        ValueError: there is no such board, komi or history.
    """
    if not (found := re.fullmatch(r"go(\d+)(?:-(\d+(?:\.\d+)?)(?:-(\d+))?)?", name)):
        return None
    size, komi, history = found.groups()
    return Go(int(size), float(komi or Go.komi), int(history or Go.history))


def to_move(states: Positions) -> NDArray[np.int8]:
    """The colour of the player to move [B]: 1 Black, -1 White."""
    return (1 - 2 * (states.ply % 2)).astype(np.int8)


def _newest(states: Positions) -> NDArray[np.uint64]:
    """The key of the position now [B]; of the empty board it is 0, which is also what the last place of no move holds."""
    return states.keys[np.arange(len(states)), states.ply - 1]


def _beyond(cells: NDArray[np.int8], value: int) -> NDArray[np.int8]:
    """Cells [B, n * n] with one more, which lies beyond the edge."""
    return np.pad(cells, ((0, 0), (0, 1)), constant_values=value)


def _among(keys: NDArray[np.uint64], seen: NDArray[np.uint64]) -> Flags:
    """Whether each key [B, K] is one of its game's [B, N]; a table of their last bits shows at once that most are not."""
    last = np.uint64((1 << (16 * seen.size).bit_length()) - 1)
    shift = np.arange(len(seen), dtype=np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15)  # another one for each game
    table = np.zeros(int(last) + 1, bool)
    table[(seen + shift) & last] = True
    found: Flags = table[(keys + shift) & last]
    games, places = np.nonzero(found)
    found[games, places] = (seen[games] == keys[games, places, None]).any(1)
    return found


def _first(group: NDArray[np.int64]) -> Flags:
    """Whether a group next to a cell is not also on an earlier side of it [B, n * n, 4]."""
    first = np.ones(group.shape, bool)
    for side in range(1, 4):
        first[..., side] = (group[..., side, None] != group[..., :side]).all(-1)
    return first


def _reached(stones: Flags, empty: Flags) -> Flags:
    """Stones, and the empty points that are joined to them by empty points [B, n, n]."""
    reached = stones
    while True:
        wide = np.pad(reached, ((0, 0), (1, 1), (1, 1)))
        more = wide[:, :-2, 1:-1] | wide[:, 2:, 1:-1] | wide[:, 1:-1, :-2] | wide[:, 1:-1, 2:]
        after = reached | more & empty
        if (after == reached).all():
            return reached
        reached = after
