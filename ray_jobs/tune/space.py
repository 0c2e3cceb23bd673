"""Expressions of a search space, as the user types them: 'loguniform(1e-4, 1e-2)', 'choice(adam, sgd)', 'grid(1, 2, 3)'.

A text is parsed through Python's syntax tree and never evaluated. Every dimension is a quantile function: a value is a
pure function of one number in [0, 1), so trial 7 of seed 0 has the same settings whenever, wherever and in whatever
order it is drawn. Nothing here knows Ray.
"""

from __future__ import annotations

import ast
import difflib
import itertools
import json
import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray_jobs.errors import LONG, UsageError, printable

Check = Callable[[Mapping[str, Any]], object]
"""Raises UsageError where the settings are not ones that the recipe takes."""

FORMS = {
    "uniform": "uniform(low, high)",
    "loguniform": "loguniform(low, high)",
    "quniform": "quniform(low, high, step)",
    "randint": "randint(low, high)",
    "lograndint": "lograndint(low, high)",
    "choice": "choice(a, b, ...)",
    "grid": "grid(a, b, ...)",
}
EXACT = 2**53
"""Whole numbers up to here are exact as floats."""
MOST_TRIALS = 100_000
"""Of one search."""
NO_LITERAL = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)
"""What `ast` raises at a text that is no literal, or one that is too deep."""
INTEGER = ("randint", "lograndint")
LISTED = ("choice", "grid")


@dataclass(frozen=True)
class Dimension:
    """One setting that varies. As in Ray Tune, `high` is excluded for randint and lograndint."""

    form: str
    args: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.form}({', '.join(map(repr, self.args))})"

    def at(self, u: float) -> Any:
        """The value at quantile `u` in [0, 1)."""
        if self.form in LISTED:
            return self.args[int(u * len(self.args))]
        low, high = self.args[:2]
        if self.form.startswith("log"):
            value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
        else:
            value = low + u * (high - low)
        if self.form in INTEGER:
            return min(max(int(value), low), high - 1)
        if self.form == "quniform":
            return self._rounded(value)
        return min(max(value, low), high)

    def _rounded(self, value: float) -> float:
        """The nearest multiple of the step inside the bounds."""
        lowest, highest = self.multiples
        return self._multiple(min(max(round(value / self.args[2]), lowest), highest))

    @property
    def multiples(self) -> tuple[int, int]:
        """Of quniform: the lowest and the highest multiple of the step that lie inside the bounds, in steps."""
        low, high, step = self.args
        return math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)

    def _multiple(self, steps: int) -> float:
        """So many steps; digits that only binary rounding left are dropped."""
        value = float(f"{steps * self.args[2]:.12g}")
        return int(value) if all(isinstance(x, int) for x in self.args) else value

    def encoded(self, value: Any) -> Any:
        """A value as a searcher that knows plain numbers alone handles it: where values are listed its place, of quniform the steps."""
        if self.form in LISTED:
            texts = [json.dumps(x) for x in self.args]  # a list that was a tuple is equal, and 1 is not True
            return texts.index(json.dumps(value))
        return round(value / self.args[2]) if self.form == "quniform" else value

    def decoded(self, code: Any) -> Any:
        """The value that `encoded` made a number of."""
        if self.form in LISTED:
            return self.args[code]
        return self._multiple(code) if self.form == "quniform" else code

    def ends(self) -> list[Any]:
        """Values that are checked for all others: every listed one, or the lowest, one inside and the highest."""
        return list(self.args) if self.form in LISTED else [self.at(0.0), self.at(0.37), self.at(1.0 - 1e-12)]

    def perturbed(self, value: Any, rng: random.Random, resample: float = 0.25) -> Any:
        """`value` scaled by 0.8 or 1.2 inside the bounds, a neighbour where values are listed, sometimes a fresh draw.

        Source: Jaderberg et al. 2017 (arXiv:1711.09846), section 4.1.1, 'perturb' and 'resample'.
        """
        if rng.random() < resample or value not in self:
            return self.at(rng.random())
        if self.form in LISTED:
            at = self.args.index(value) + rng.choice((-1, 1))
            return self.args[min(max(at, 0), len(self.args) - 1)]
        low, high = self.args[:2]
        scaled = value * rng.choice((0.8, 1.2))
        if self.form in INTEGER:  # rounded away from the old value, or small numbers would never move
            away = math.ceil(scaled) if scaled > value else math.floor(scaled)
            return min(max(away, low), high - 1)
        scaled = min(max(scaled, low), high)
        return self._rounded(scaled) if self.form == "quniform" else scaled

    def __contains__(self, value: Any) -> bool:
        """Whether `value` is one that this dimension could have drawn (the step of quniform aside)."""
        if self.form in LISTED:
            return value in self.args
        return isinstance(value, int | float) and self.args[0] <= value <= self.args[1]


Space = Mapping[str, Dimension]


def parse(name: str, text: object) -> Dimension:
    """The dimension that `text` describes for the setting `name`; a plain value is a choice of one.

    Raises:
        UsageError: the text is no search expression; the sentence says which are.
    """
    if not isinstance(text, str):
        return Dimension("choice", (text,))
    if not re.match(r"\s*[\w.]+\s*\(", text):
        return Dimension("choice", (plain(text),))
    call = _call(name, text)
    form = call.func.id if isinstance(call.func, ast.Name) else ""
    if form not in FORMS:
        near = difflib.get_close_matches(form, FORMS, n=1, cutoff=0.5)
        hint = f" did you mean '{near[0]}'?" if near else ""
        raise _wrong(name, text, f"there is no '{form or ast.unparse(call.func)}';{hint}")
    args = tuple(_value(name, text, node) for node in call.args)
    return _checked(name, text, Dimension(form, args))


def plain(text: str) -> Any:
    """A value as typed: a number, true, false, none, a list, or else the text itself."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.strip().lower() in words:
        return words[text.strip().lower()]
    try:
        value = ast.literal_eval(text.strip())
    except NO_LITERAL:
        return text
    return value if _storable(value) else text


def _wrong(name: str, text: str, why: str) -> UsageError:
    return UsageError(
        f"The search space of '{name}' is wrong: in '{printable(text[:LONG])}', {why} allowed: {', '.join(FORMS.values())}, or one value."
    )


def _call(name: str, text: str) -> ast.Call:
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except NO_LITERAL:
        raise _wrong(name, text, "brackets, commas or quotes do not match;") from None
    if not isinstance(tree, ast.Call):
        raise _wrong(name, text, "something follows the closing bracket;")
    if tree.keywords:
        raise _wrong(name, text, f"'{tree.keywords[0].arg}=' is not understood, give the values alone;")
    return tree


def _value(name: str, text: str, node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return {"true": True, "false": False, "none": None}.get(node.id.lower(), node.id)
    try:
        value = ast.literal_eval(node)
    except NO_LITERAL:
        value = ...
    if _storable(value):
        return value
    shown = (ast.get_source_segment(text.strip(), node) or "a value")[:LONG]
    raise _wrong(name, text, f"'{shown}' is not a plain value, quote it if it is a text;")


def _storable(value: object) -> bool:
    """Whether a value is one that JSON can keep: a record of a trial is."""
    if isinstance(value, list | tuple):
        return all(map(_storable, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) and _storable(v) for k, v in value.items())
    return value is None or isinstance(value, str | int | float)


def _checked(name: str, text: str, dimension: Dimension) -> Dimension:
    form, args = dimension.form, dimension.args
    if form in LISTED:
        if not args:
            raise _wrong(name, text, "no value is given;")
        if any(isinstance(x, float) and not math.isfinite(x) for x in args):
            raise _wrong(name, text, f"{form} takes finite numbers;")
        return dimension
    wanted = 3 if form == "quniform" else 2
    if len(args) != wanted:
        raise _wrong(name, text, f"{form} takes {wanted} numbers, not {len(args)};")
    whole = form in INTEGER
    if not all(_number(x, whole) for x in args):
        raise _wrong(name, text, f"{form} takes {'whole' if whole else 'finite'} numbers;")
    if not math.isfinite(args[1] - args[0]):
        raise _wrong(name, text, "the range is too wide;")
    if args[0] >= args[1]:
        raise _wrong(name, text, f"low ({args[0]}) must be less than high ({args[1]});")
    if form.startswith("log") and args[0] <= 0:
        raise _wrong(name, text, f"a logarithmic range must begin above 0, not at {args[0]};")
    if form == "quniform" and (args[2] <= 0 or args[2] > args[1] - args[0]):
        raise _wrong(name, text, f"the step ({args[2]}) must be above 0 and at most high - low;")
    if form == "quniform" and max(map(abs, args[:2])) / args[2] > EXACT:
        raise _wrong(name, text, f"the step ({args[2]}) is too small for this range;")
    return dimension


def _number(x: object, whole: bool) -> bool:
    if isinstance(x, bool) or not isinstance(x, int | float):
        return False
    return abs(x) <= EXACT if isinstance(x, int) else not whole and math.isfinite(x)


def parse_all(texts: Mapping[str, object], settings: Mapping[str, Any], check: Check) -> dict[str, Dimension]:
    """Parse a whole space and try the ends of every dimension, together with the fixed `settings`, on `check`.

    Raises:
        UsageError: an expression is wrong, a setting is both fixed and varied, or the recipe refuses an end.
    """
    if not texts:
        raise UsageError("Nothing to tune: give at least one range, such as --space.lr 'loguniform(1e-4, 1e-2)'.")
    space = {name: parse(name, text) for name, text in texts.items()}
    for name, dimension in space.items():
        if name in settings:
            raise UsageError(
                f"The setting '{name}' is both fixed and varied: give --{name} or --space.{name}, not both."
            )
        for value in dimension.ends():
            _try(name, dimension, {**settings, name: value}, check)
    return space


def _try(name: str, dimension: Dimension, settings: Mapping[str, Any], check: Check) -> None:
    try:
        check(settings)
    except UsageError as error:
        raise UsageError(f"In --space.{name} '{dimension}': {error}") from None


def grid_size(space: Space) -> int:
    """How many combinations the grids of the space have; 1 without any."""
    return math.prod(len(d.args) for d in space.values() if d.form == "grid")


def count(space: Space, trials: int | None, default: int = 20) -> int:
    """How many trials to run: a space of grids alone runs each combination once, any other `trials` (20) trials.

    Raises:
        UsageError: fewer trials than combinations of the grids, or more than MOST_TRIALS.
    """
    size = grid_size(space)
    if trials is not None and trials < 1:
        raise UsageError(f"--trials must be at least 1, not {trials}.")
    if trials is not None and trials < size:
        raise UsageError(
            f"The grids have {size} combinations, but --trials is {trials}: allow {size} or shorten a grid."
        )
    walked = all(d.form == "grid" or len(d.args) == 1 for d in space.values())
    total = size if walked else trials or max(default, size)
    if total > MOST_TRIALS:
        raise UsageError(f"A search has at most {MOST_TRIALS:,} trials, not {total:,}: shorten a grid or --trials.")
    return total


def sample(space: Space, seed: int, trial: int) -> dict[str, Any]:
    """The settings of trial number `trial`: a pure function of its arguments, each dimension drawn independently.

    Grids are not drawn but walked: trial i takes combination i modulo their number.
    """
    grids = [name for name, d in space.items() if d.form == "grid"]
    combination = dict(zip(grids, _combination([space[n].args for n in grids], trial), strict=True))
    drawn = {n: d.at(random.Random(f"{seed}/{trial}/{n}").random()) for n, d in space.items() if n not in combination}
    return {name: (combination | drawn)[name] for name in space}


def _combination(lists: list[tuple[Any, ...]], index: int) -> tuple[Any, ...]:
    size = math.prod(map(len, lists))
    return next(itertools.islice(itertools.product(*lists), index % size, None))
