"""A solver of connect-4: who wins a position with best play, by alpha-beta search over bitboards.

A board is two whole numbers: the stones of the player to move, and all stones. Column c has bits 7c to 7c + 5 from the bottom up; bit
7c + 6 stays empty, so that lines do not run over a column's top.

Source: Allis 1988, "A knowledge-based approach of connect-four" (the game is won by the first player); alpha-beta: Knuth & Moore 1975.
"""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 7, 6
CELLS = WIDTH * HEIGHT
COLUMN = (1 << HEIGHT) - 1
BOTTOM = sum(1 << 7 * c for c in range(WIDTH))
BOARD = BOTTOM * COLUMN
ORDER = sorted(range(WIDTH), key=lambda c: abs(c - WIDTH // 2))
"""Columns from the centre out."""
MOST = 2_000_000
"""Positions that the table keeps."""


def wins(stones: int, full: int) -> int:
    """The empty cells that complete a line of four for the owner of these stones, reachable now or not."""
    found = stones << 1 & stones << 2 & stones << 3
    for d in (6, 7, 8):
        pair = stones << d & stones << 2 * d
        found |= pair & stones << 3 * d | pair & stones >> d
        pair = stones >> d & stones >> 2 * d
        found |= pair & stones >> 3 * d | pair & stones << d
    return found & BOARD & ~full


def free(full: int) -> int:
    """The lowest free cell of every column that has one."""
    return full + BOTTOM & BOARD


def column(c: int) -> int:
    """The cells of a column."""
    return COLUMN << 7 * c


def after(mine: int, full: int, c: int) -> tuple[int, int]:
    """The board after a stone in column c, as the other player sees it."""
    return full ^ mine, full | free(full) & column(c)


def board(moves: Sequence[int]) -> tuple[int, int]:
    """The board after these columns, from 0."""
    mine, full = 0, 0
    for c in moves:
        mine, full = after(mine, full, c)
    return mine, full


class Solver:
    """Scores of positions, with a table of bounds that later calls profit from.

    A score is 0 for a draw and, for the player to move, s > 0 for a win with the (22 - s)-th of their stones, -s for such a loss.
    """

    def __init__(self) -> None:
        self.upper: dict[int, int] = {}
        """Upper bounds, by mine + full, which no two positions share."""

    def score(self, mine: int, full: int, low: int = -21, high: int = 21) -> int:
        """The score of a position that is not over, as far as it lies within low and high; beyond, a bound on its side."""
        if wins(mine, full) & free(full):
            return (CELLS + 1 - full.bit_count()) // 2
        return self._search(mine, full, low, high)

    def value(self, mine: int, full: int) -> int:
        """1, 0 or -1: whether the player to move wins, draws or loses."""
        found = self.score(mine, full, -1, 1)
        return (found > 0) - (found < 0)

    def values(self, mine: int, full: int) -> list[int | None]:
        """The value of a stone in each column for the player to move; None where the column is full."""
        found: list[int | None] = []
        for c in range(WIDTH):
            cell = free(full) & column(c)
            if not cell:
                found.append(None)
            elif wins(mine, full) & cell:
                found.append(1)
            elif (full | cell) == BOARD:
                found.append(0)
            else:
                found.append(-self.value(*after(mine, full, c)))
        return found

    def _search(self, mine: int, full: int, low: int, high: int) -> int:
        """As `score`; the player to move cannot win at once."""
        left = CELLS - full.bit_count()
        moves, threats = free(full), wins(full ^ mine, full)
        if forced := moves & threats:
            if forced & forced - 1:  # two cells would have to be filled
                return -(left // 2)
            moves = forced
        moves &= ~(threats >> 1)  # a stone there lets the other player win on top of it
        if not moves:
            return -(left // 2)
        if left <= 2:
            return 0
        low = max(low, -((left - 2) // 2))
        high = min(high, (left - 1) // 2, self.upper.get(mine + full, CELLS))
        if low >= high:
            return high
        for cell in self._ordered(mine, full, moves):
            found = -self._search(full ^ mine, full | cell, -high, -low)
            if found >= high:
                return found
            low = max(low, found)
        if len(self.upper) >= MOST:
            self.upper.clear()
        self.upper[mine + full] = low
        return low

    def _ordered(self, mine: int, full: int, moves: int) -> list[int]:
        """Cells, those that make most threats first, then from the centre out."""
        cells = [cell for c in ORDER if (cell := moves & column(c))]
        return sorted(cells, key=lambda cell: -wins(mine | cell, full | cell).bit_count())
