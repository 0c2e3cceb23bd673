"""Go against a plain reference that loops over stones, and known positions: ko, superko, snapback, seki."""

import numpy as np
import pytest

from ray_jobs.self_play.games.go import Go
from ray_jobs.self_play.games.named import named


class Reference:
    """One game by the rules' words: recursive flood fill, a set of seen positions."""

    def __init__(self, size):
        self.size = size
        self.board = {}  # (row, column) -> colour
        self.seen = {frozenset()}
        self.colour, self.moves, self.passes = 1, 0, 0
        self.suicides = self.repeats = 0

    def near(self, point):
        row, column = point
        around = (row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)
        return [(r, c) for r, c in around if 0 <= r < self.size and 0 <= c < self.size]

    def flood(self, board, point, found=None):
        found = set() if found is None else found
        found.add(point)
        for other in self.near(point):
            if other not in found and board.get(other) == board.get(point):
                self.flood(board, other, found)
        return found

    def has_liberty(self, board, point):
        return any(p not in board for stone in self.flood(board, point) for p in self.near(stone))

    def after(self, point):
        """The board after a stone, or None where that is forbidden."""
        if point in self.board:
            return None
        board = {**self.board, point: self.colour}
        for other in self.near(point):
            if board.get(other) == -self.colour and not self.has_liberty(board, other):
                for stone in self.flood(board, other):
                    del board[stone]
        suicide, repeats = not self.has_liberty(board, point), frozenset(board.items()) in self.seen
        self.suicides, self.repeats = self.suicides + suicide, self.repeats + repeats
        return None if suicide or repeats else board

    def play(self, point):
        if point is None:
            self.passes += 1
        else:
            self.board, self.passes = self.after(point), 0
            self.seen.add(frozenset(self.board.items()))
        self.colour, self.moves = -self.colour, self.moves + 1

    def over(self):
        return self.passes == 2 or self.moves == 2 * self.size**2

    def score(self):
        """Black's area less White's."""
        total = sum(self.board.values())
        points = {(r, c) for r in range(self.size) for c in range(self.size)} - self.board.keys()
        for point in points:
            colours = {self.board[p] for q in self.flood(self.board, point) for p in self.near(q) if p in self.board}
            total += sum(colours) if len(colours) == 1 else 0
        return total


def points(size):
    return [(r, c) for r in range(size) for c in range(size)] + [None]


@pytest.mark.parametrize(("size", "games", "repeats"), [(2, 100, 50), (3, 50, 20), (5, 20, 5), (9, 1, 0)])
def test_random_games_are_those_of_the_plain_reference(size, games, repeats):
    """Every legal move, board, end and score of games that are played at once, many of them to the last move."""
    game, rng = Go(size, 0.5, 2), np.random.default_rng(size)
    states, references = game.begin(games), [Reference(size) for _ in range(games)]
    every, played = points(size), references
    while len(states):
        legal = game.legal(states)
        assert legal.tolist() == [[p is None or r.after(p) is not None for p in every] for r in references]
        weights = legal * np.append(np.ones(size * size), 0.02)
        moves = np.array([rng.choice(len(every), p=w / w.sum()) for w in weights])
        states = game.play(states, moves)
        for reference, move in zip(references, moves, strict=True):
            reference.play(every[move])
        boards = [[[r.board.get((i, j), 0) for j in range(size)] for i in range(size)] for r in references]
        assert game.stones(states).tolist() == boards
        assert game.score(states).tolist() == [r.score() - 0.5 for r in references]
        assert game.over(states).tolist() == [r.over() for r in references]
        alive = ~game.over(states)
        states, references = states[alive], [r for r, on in zip(references, alive, strict=True) if on]
    assert sum(r.repeats for r in played) >= repeats
    assert sum(r.suicides for r in played) >= 50


def at(game, *rows, black_to_move=True):
    """A position of stones, with nothing before it: X is Black; the lines run from the top."""
    states = game.begin(1)
    cells = np.array([".XO".index(c) for c in "".join(rows)])
    placed = [[*np.flatnonzero(cells == 1)], [*np.flatnonzero(cells == 2)]]
    for turn in range(2 * max(map(len, placed)) + (not black_to_move)):  # an extra pass keeps the turn
        mine = placed[turn % 2]
        states = game.play(states, np.array([mine.pop(0) if mine else game.cells]))
    assert np.array_equal(game.stones(states).ravel(), np.array([0, 1, -1])[cells])
    return states


def played(game, states, *moves):
    """The position after moves, each of which must be legal."""
    for move in map(game.parse, moves):
        assert game.legal(states)[0, move], game.format(move)
        states = game.play(states, np.array([move]))
    return states


def allows(game, states, move):
    return bool(game.legal(states)[0, game.parse(move)])


def test_ko_is_taken_back_after_another_move_only():
    game = Go(5, 0.5)
    states = at(game, ".....", ".XO..", "XO.O.", ".XO..", ".....")
    states = played(game, states, "C3")
    assert game.drawing(states).splitlines()[2] == " 3 X . X O ."
    assert not allows(game, states, "B3")
    threat = played(game, states, "E5", "E1", "B3")
    assert not allows(game, threat, "C3")


def test_a_snapback_captures_the_capturing_stones():
    game = Go(5, 0.5)
    states = at(game, ".....", ".....", ".XX.O", "XOOXO", "X..OO")
    states = played(game, states, "C1", "B1", "C1")
    assert game.drawing(states).splitlines()[3:5] == [" 2 X . . X O", " 1 X . X O O"]


def test_suicide_is_forbidden_and_capturing_without_a_liberty_is_not():
    game = Go(3, 0.5)
    assert not allows(game, at(game, ".O.", "O..", "..."), "A3")
    states = played(game, at(game, ".OX", "OX.", "X.."), "A3")
    assert game.drawing(states).splitlines()[:2] == [" 3 X . X", " 2 . X ."]


def test_sending_two_and_returning_one_repeats_a_position_by_either_stone():
    game = Go(5, 0.5)
    one = played(game, at(game, ".X.X.", "OOX..", ".....", ".....", "....."), "A5", "C5")
    assert game.drawing(one).splitlines()[0] == " 5 . . O X ."
    assert not allows(game, one, "B5")
    assert allows(game, played(game, one, "E1", "E2"), "B5")
    two = played(game, at(game, "XX.X.", "OOX..", ".....", ".....", ".....", black_to_move=False), "C5", "B5", "pass")
    assert not allows(game, two, "A5")  # a stone that captures nothing
    assert allows(game, played(game, two, "E1", "E2"), "A5")


def test_a_triple_ko_ends_by_superko():
    game = Go(9, 0.5)
    shape = {"white": [".XO......", "XO.O.....", ".XO......"], "black": [".XO......", "X.XO.....", ".XO......"]}
    states = played(game, at(game, *shape["white"], *shape["black"], *shape["white"]), "C8", "B5", "C2", "B8", "C5")
    assert not allows(game, states, "B2")
    assert allows(game, played(game, states, "J1", "J9"), "B2")


def test_in_seki_stones_count_and_shared_liberties_do_not():
    game = Go(5, 0.0)
    assert game.score(at(game, "XXXOO", "XX.OO", "XXXOO", "XX.OO", "XXOOO")).tolist() == [12 - 11]


def test_two_passes_or_too_many_moves_end_a_game_and_the_larger_area_wins():
    game = Go(3, 0.5)
    passed = played(game, game.begin(1), "B2", "pass")
    assert not game.over(passed)[0]
    passed = played(game, passed, "pass")
    assert game.over(passed)[0]
    assert game.score(passed)[0] == 8.5
    assert game.outcome(passed)[0] == -1  # White is to move, and Black has won
    states = game.begin(1)
    for count in range(18):
        assert not game.over(states)[0]
        states = game.play(states, game.legal(states).argmax(1) if count % 2 else np.array([game.cells]))
    assert game.over(states)[0]
    assert Go(3, 9.0).outcome(passed)[0] == 0  # a drawn game


def test_an_observation_shows_recent_boards_and_the_colour_to_the_player_to_move():
    game = Go(3, 0.5, 2)
    seen = game.observe(played(game, game.begin(1), "A3", "C1", "B2"))[0]
    board = np.array([[1, 0, 0], [0, 0, 0], [0, 0, -1]])
    now = board + np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert seen.tolist() == [
        b.tolist() for b in (1 * (now == -1), 1 * (now == 1), 1 * (board == -1), 1 * (board == 1), 0 * board)
    ]
    assert game.observe(game.begin(1))[0, -1].all()


def test_a_game_turned_or_reflected_is_the_same_game():
    game, rng = Go(4, 0.5, 2), np.random.default_rng(0)
    moves, states = [], game.begin(1)
    while not game.over(states)[0]:
        moves.append(
            rng.choice(np.flatnonzero(game.legal(states)[0, :-1]), 1)
            if game.legal(states)[0, :-1].any()
            else np.array([16])
        )
        states = game.play(states, moves[-1])
    assert len({symmetry.moves.tobytes() for symmetry in game.symmetries}) == 8
    for symmetry in game.symmetries:
        turned, place = game.begin(1), np.argsort(symmetry.moves)
        for move in moves:
            turned = game.play(turned, place[move])
        assert np.array_equal(game.legal(turned), game.legal(states)[:, symmetry.moves])
        seen = game.observe(states).reshape(1, game.planes, -1)
        assert np.array_equal(game.observe(turned).reshape(1, game.planes, -1), seen[:, :, symmetry.cells])


@pytest.mark.parametrize("size", [2, 9, 25])
def test_moves_are_read_as_they_are_written(size):
    game = Go(size)
    assert [game.parse(game.format(move)) for move in range(game.moves)] == list(range(game.moves))
    assert game.format(game.parse(" a1 ")) == "A1"
    with pytest.raises(ValueError, match="'I1' is no move of Go: write a point from A1 to"):
        game.parse("I1")


def test_games_have_names_and_impossible_ones_are_refused():
    for name in ("go9", "go19", "go9-5.5", "go5-24.5-2", "go5-7.5-2"):
        assert named(name).name == name
    with pytest.raises(ValueError, match="from 2 to 25 lines, not 26"):
        named("go26")
    with pytest.raises(ValueError, match="from 1 to 8 boards, not 9"):
        named("go9-7.5-9")
    with pytest.raises(ValueError, match=r"a number such as 7\.5, not nan"):
        Go(9, float("nan"))
