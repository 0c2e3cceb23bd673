"""Search expressions: what they mean, that nothing is evaluated, and that a wrong one is refused in one sentence."""

import contextlib
import itertools
import json
import math
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_jobs.errors import UsageError
from ray_jobs.tune.space import Dimension, count, parse, parse_all, sample

steady = settings(derandomize=True, deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
LETTERS = st.text("abz_'\"(), .1-", max_size=12)
NUMBERS = st.floats(1e-6, 1e6)
UNIT = st.floats(0, 1, exclude_max=True)


@st.composite
def dimensions(draw):
    """Any valid dimension."""
    form = draw(st.sampled_from(["uniform", "loguniform", "quniform", "randint", "lograndint", "choice", "grid"]))
    if form in ("choice", "grid"):
        values = st.one_of(st.integers(), NUMBERS, st.booleans(), LETTERS, st.none())
        return Dimension(form, tuple(draw(st.lists(values, min_size=1, max_size=5))))
    if form == "quniform":
        step, first, more = (draw(st.integers(1, 50)) for _ in range(3))
        scale = draw(st.sampled_from([1, 0.1, 0.25]))
        return Dimension(form, (step * first * scale, step * (first + more) * scale, step * scale))
    numbers = st.integers(1, 10_000) if "int" in form else NUMBERS
    return Dimension(form, tuple(sorted(draw(st.lists(numbers, min_size=2, max_size=2, unique=True)))))


@steady
@given(dimensions(), UNIT)
def test_text_gives_the_dimension_back_and_draws_stay_inside(dimension, u):
    parsed = parse("x", str(dimension))
    assert parsed == dimension
    assert all(_inside(dimension, value) for value in [parsed.at(u), *parsed.ends()])


def _inside(dimension, value):
    if dimension.form in ("choice", "grid"):
        return value in dimension.args
    low, high = dimension.args[:2]
    if "int" in dimension.form:
        return isinstance(value, int) and low <= value < high
    return low * (1 - 1e-9) <= value <= high * (1 + 1e-9)


@steady
@given(dimensions(), UNIT, st.integers(0, 99))
def test_perturbed_values_stay_inside(dimension, u, seed):
    assert _inside(dimension, dimension.perturbed(dimension.at(u), random.Random(seed)))


def test_perturbing_scales_by_a_fifth_and_moves_small_whole_numbers():
    rng = random.Random(0)
    ratios = {round(Dimension("uniform", (0, 10)).perturbed(5.0, rng, resample=0) / 5.0, 9) for _ in range(50)}
    assert ratios == {0.8, 1.2}
    assert {Dimension("randint", (1, 9)).perturbed(2, rng, resample=0) for _ in range(50)} == {1, 3}
    assert {Dimension("choice", ("a", "b", "c")).perturbed("a", rng, resample=0) for _ in range(50)} == {"a", "b"}


@steady
@given(NUMBERS, NUMBERS)
def test_half_of_loguniform_lies_below_the_geometric_mean(a, b):
    low, high = sorted((a, b))
    if low < high:
        assert Dimension("loguniform", (low, high)).at(0.5) == pytest.approx(math.sqrt(low) * math.sqrt(high))


def test_every_whole_number_and_choice_has_the_same_share():
    shares = [Dimension("randint", (3, 8)).at((i + 0.5) / 1000) for i in range(1000)]
    assert {v: shares.count(v) for v in range(3, 8)} == dict.fromkeys(range(3, 8), 200)
    shares = [Dimension("choice", ("a", "b")).at((i + 0.5) / 10) for i in range(10)]
    assert shares == ["a"] * 5 + ["b"] * 5


def test_steps_are_multiples_without_binary_dust():
    values = {Dimension("quniform", (0, 1, 0.1)).at(i / 500) for i in range(500)}
    assert sorted(values) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert Dimension("quniform", (8, 64, 8)).at(0.5) in range(8, 65, 8)


@pytest.mark.parametrize(
    ("text", "value"), [("0.001", 0.001), ("adam", "adam"), ("true", True), ("[64, 64]", [64, 64])]
)
def test_a_plain_value_is_fixed(text, value):
    assert parse("x", text).ends() == [value]


@steady
@given(LETTERS)
def test_any_text_is_understood_or_refused(text):
    for form in (text, f"uniform({text})", f"choice({text}", f"{text}(1, 2)"):
        with contextlib.suppress(UsageError):
            assert isinstance(parse("x", form), Dimension)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("loguniorm(1,2)", "did you mean 'loguniform'"),
        ("uniform(2,1)", "low (2) must be less than high (1)"),
        ("uniform(1)", "takes 2 numbers, not 1"),
        ("loguniform(0,1)", "above 0"),
        ("randint(0.5,3)", "whole numbers"),
        ("uniform(1,1e999)", "finite"),
        ("quniform(0,1,2)", "step"),
        ("choice()", "no value"),
        ("choice(bf16-mixed)", "quote it"),
        ("choice(__import__('os').getcwd())", "not a plain value"),
        ("__import__('os').system('true')", "there is no"),
        ("uniform(1,2", "brackets"),
        ("uniform(1,2)+1", "follows"),
        ("uniform(low=1,high=2)", "'low='"),
    ],
)
def test_a_wrong_expression_is_refused(text, why):
    with pytest.raises(UsageError, match="search space of 'lr'") as error:
        parse("lr", text)
    assert why in str(error.value)
    assert "\n" not in str(error.value)


def test_the_ends_of_every_dimension_are_tried():
    tried = []
    parse_all({"a": "uniform(1, 3)", "b": "choice(x, y)"}, {"c": 7}, tried.append)
    assert {t["b"] for t in tried if "b" in t} == {"x", "y"}
    ends = [t["a"] for t in tried if "a" in t]
    assert min(ends) == 1
    assert max(ends) == pytest.approx(3)
    assert all(t["c"] == 7 for t in tried)


def test_what_the_recipe_refuses_is_refused_with_its_expression():
    def check(settings):
        if settings["a"] > 2:
            raise UsageError("--a must be at most 2.")

    with pytest.raises(UsageError, match=r"--space.a 'uniform\(1, 3\)': --a must be at most 2"):
        parse_all({"a": "uniform(1, 3)"}, {}, check)
    with pytest.raises(UsageError, match="both fixed and varied"):
        parse_all({"a": "uniform(0, 1)"}, {"a": 1}, check)
    with pytest.raises(UsageError, match="Nothing to tune"):
        parse_all({}, {}, check)


def test_grids_are_walked_and_counted():
    space = {"a": parse("a", "grid(1,2,3)"), "b": parse("b", "grid(x,y)")}
    assert count(space, None) == 6
    walked = {tuple(sample(space, 0, i).values()) for i in range(6)}
    assert walked == set(itertools.product((1, 2, 3), ("x", "y")))
    with pytest.raises(UsageError, match="6 combinations"):
        count(space, 5)
    mixed = space | {"c": parse("c", "uniform(0,1)")}
    assert (count(mixed, None), count(mixed, 8)) == (20, 8)


def test_a_trial_is_a_function_of_seed_and_number():
    space = {"a": parse("a", "uniform(0,1)"), "b": parse("b", "uniform(0,1)")}
    draws = [sample(space, seed, trial) for seed in range(3) for trial in range(20)]
    assert draws == [sample(space, seed, trial) for seed in range(3) for trial in range(20)]
    assert len({value for d in draws for value in d.values()}) == 120
    assert sample({"b": space["b"]}, 0, 4)["b"] == sample(space, 0, 4)["b"]


@steady
@given(dimensions(), UNIT)
def test_a_value_and_its_number_stand_for_each_other(dimension, u):
    value = dimension.at(u)
    code = dimension.encoded(json.loads(json.dumps(value)))
    assert isinstance(code, int | float) and dimension.decoded(code) == value


def test_lists_truths_and_numbers_have_numbers_of_their_own():
    dimension = parse("x", "choice([1, 2], (3, 4), 1, True, 1.0, none, 'a', {'k': 1})")
    assert [dimension.encoded(json.loads(json.dumps(x))) for x in dimension.args] == list(range(8))
    assert [dimension.decoded(i) for i in range(8)] == list(dimension.args)


@pytest.mark.parametrize(
    "text",
    [
        "qloguniform(1e-4, 1, 1e-4)", "qrandint(1, 8, 2)", "sample_from(lambda spec: 1)", "randn(0, 1)", "normal(0, 1)", "quniform(0, 1)",
        "uniform(1, nan)", "uniform(0, 1e999)", "uniform(-1.7e308, 1.7e308)", "randint(0, 1" + "0" * 400 + ")", "randint(0.5, 2)",
        "quniform(0, 1e300, 1e-300)", "loguniform(0, 1)", "randint(3, 3)", "choice()", "grid()", "choice(b'x')", "choice({1, 2})",
        "choice(1j)", "choice(1e999)", "choice(...)", "choice({1: 2})", "choice(" + "1+" * 3000 + "1)",
        "choice(" + "[" * 300 + "]" * 300 + ")", "choice(-'a')", "choice({[]: 1})",
        "uniform(low=0, high=1)", "uniform(*[0, 1])", "uniform(0, 1)(2)", "choice(x.y)", "choice(\x00)",
        "choice(a" + "\n" * 3, "uniform(True, 2)", "randint('a', 'b')", "os.system('touch mark')", "choice(__import__('os'))",
    ],
)  # fmt: skip
def test_a_space_that_cannot_be_is_one_sentence(text):
    with pytest.raises(UsageError, match=r"^The search space of 'lr' is wrong: ") as error:
        parse("lr", text)
    assert str(error.value).isprintable() and len(str(error.value)) < 500


def test_a_search_has_a_bound():
    many = {n: parse(n, f"grid({', '.join(map(str, range(50)))})") for n in "abcd"}
    with pytest.raises(UsageError, match="at most 100,000 trials, not 6,250,000"):
        count(many, None)
    with pytest.raises(UsageError, match="at most 100,000 trials"):
        count({"a": parse("a", "uniform(0, 1)")}, 10**9)
