"""Games of Go as SGF files: the main line of a game, written and read.

Source: Hollosi, SGF FF[4], Smart Game Format (red-bean.com/sgf), and its properties of Go: a point is column and row from the top left,
'aa', 'ba', ...; an empty point is a pass, and on boards up to 19 lines so is 'tt'.
Differs: only the main line is read, that is, the first variation at each branch; comments and marks are passed over. Players must take
turns from Black on, so games with handicap or set-up stones are refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ray_jobs.errors import shortened

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LINE = 10
"""Moves in a line of the file."""
Properties = dict[str, list[str]]
"""Of one node: values by name, as they stand in the file without their escapes."""


@dataclass(frozen=True)
class Game:
    """What a file holds of a game."""

    size: int
    komi: float
    moves: tuple[int, ...]
    """Points row by row from the top left; size * size is a pass."""
    black: str = ""
    white: str = ""
    """Names of the players."""
    result: str = ""
    """B+3.5, W+R, 0, or ? where it is not known."""


def written(game: Game) -> str:
    """The text of a file."""
    root = {
        "FF": "4", "GM": "1", "CA": "UTF-8", "SZ": str(game.size), "RU": "Chinese", "KM": f"{game.komi:g}",
        "PB": game.black, "PW": game.white, "RE": game.result,
    }  # fmt: skip
    head = "".join(f"{name}[{escaped(value)}]" for name, value in root.items() if value)
    nodes = [f";{'BW'[i % 2]}[{_point(move, game.size)}]" for i, move in enumerate(game.moves)]
    lines = ["".join(nodes[i : i + LINE]) for i in range(0, len(nodes), LINE)]
    return "\n".join([f"(;{head}", *lines]) + ")\n"


def escaped(text: str) -> str:
    """A text as a value of a property; line breaks become spaces, as they do in names."""
    return re.sub(r"([\\\]])", r"\\\1", re.sub(r"\s", " ", text))


def read(text: str) -> Game:
    """The main line of the first game of a file.

    Raises:
        ValueError: it is not SGF, not Go, or has set-up stones or moves out of turn; one sentence.
    """
    nodes = _main_line(text)
    root = nodes[0]
    if root.get("GM", ["1"])[0].strip() != "1":
        raise ValueError(f"This SGF file is not of Go: its GM is {shortened(root['GM'][0])}, and Go's is 1.")
    size, komi = _size(root), _number(root, "KM", 0.0)
    moves = list[int]()
    for node in nodes:
        if setup := {"AB", "AW", "AE"} & node.keys():
            raise ValueError(f"This game has set-up stones ({min(setup)}), which are not read.")
        for colour in ("B", "W"):
            if colour in node:
                if colour != "BW"[len(moves) % 2]:
                    raise ValueError(f"Move {len(moves) + 1} is of {colour}, but players take turns from B on.")
                moves.append(_move(node[colour][0], size))
    names = (root.get(name, [""])[0] for name in ("PB", "PW", "RE"))
    return Game(size, komi, tuple(moves), *names)


def _main_line(text: str) -> list[Properties]:
    """The nodes of the first game, of each branch the first variation.

    Raises:
        ValueError: it is not SGF; one sentence.
    """
    start = re.search(r"\(\s*;", text)  # what comes before is no part of the game
    tokens = re.finditer(
        r"[();]|([A-Za-z]+)|\[((?:\\.|[^\]\\])*)\]|\s+|(.)", text[start.start() :] if start else "", re.S
    )
    nodes: list[Properties] = []
    name = ""
    for token in tokens:
        mark, word, value, odd = token[0], token[1], token[2], token[3]
        if mark == ")" and nodes:
            return nodes
        if mark == ";":
            nodes.append({})
            name = ""
        elif word and nodes:
            name = "".join(filter(str.isupper, word))  # older files write SiZe
        elif value is not None and name:
            nodes[-1].setdefault(name, []).append(_plain(value))
        elif odd or word or value is not None:
            raise ValueError(f"This is not an SGF file: {shortened(mark)!r} is where it cannot be.")
    raise ValueError("This is not an SGF file: it holds no whole game, such as (;FF[4]GM[1]SZ[9];B[ee];W[cc]).")


def _plain(value: str) -> str:
    """A value without its escapes; an escaped line break is none."""
    return re.sub(
        r"\\(\r\n|\n\r|.)",
        lambda found: "" if found[1] in ("\n", "\r", "\r\n", "\n\r") else found[1],
        value,
        flags=re.S,
    )


def _size(root: Properties) -> int:
    size = _number(root, "SZ", 19)
    if not (1 <= size <= len(LETTERS) and size == int(size)):
        raise ValueError(
            f"The board of this SGF file has {shortened(root['SZ'][0])} lines: from 1 to {len(LETTERS)} are read."
        )
    return int(size)


def _number(root: Properties, name: str, default: float) -> float:
    text = root.get(name, [""])[0].strip()
    try:
        number = float(text or default)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"The {name} of this SGF file is no number: {shortened(text)}.")
    return number


def _point(move: int, size: int) -> str:
    if move == size**2:
        return ""
    row, column = divmod(move, size)
    return LETTERS[column] + LETTERS[row]


def _move(point: str, size: int) -> int:
    """A point of a file as a move.

    Raises:
        ValueError: it is not on the board; one sentence.
    """
    point = point.strip()
    if not point or (point == "tt" and size <= 19):
        return size**2
    if len(point) == 2 and all(letter in LETTERS[:size] for letter in point):
        return LETTERS.index(point[1]) * size + LETTERS.index(point[0])
    raise ValueError(f"{shortened(point)!r} is no point of a board of {size} lines.")
