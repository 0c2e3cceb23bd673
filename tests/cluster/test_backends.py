"""Backends are found by name, and their options by the fields of their launchers."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster import backends
from cluster.job import LauncherError
from cluster.local import Local


@dataclass(frozen=True)
class Odd:
    """Fields that may be options, and some that may not."""

    text: str = "t"
    number: int = 1
    several: tuple[str, ...] = ()
    made: tuple[str, ...] = dataclasses.field(default_factory=lambda: ("a",))
    path: Path = Path()
    pairs: dict[str, str] = dataclasses.field(default_factory=dict)
    inner: str = dataclasses.field(default="", init=False)


@pytest.fixture(autouse=True)
def odd(monkeypatch):
    monkeypatch.setitem(backends.BACKENDS, "odd", backends.Backend(f"{__name__}:Odd"))


def test_every_option_of_a_simple_type_is_found_with_its_default():
    found = {o.name: (o.type, o.default) for o in backends.options("odd").values()}
    assert found == {
        "text": (str, "t"),
        "number": (int, 1),
        "several": (tuple[str, ...], ()),
        "made": (tuple[str, ...], ("a",)),
    }
    assert set(backends.options("local")) == {"grace"}


def test_a_launcher_is_made_from_what_a_record_holds():
    assert backends.make("odd", {"number": 2, "several": ["a b", "c"]}) == Odd(number=2, several=("a b", "c"))
    assert isinstance(backends.make("local", {}), Local)


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("odd", {"numbr": 1}, r"odd has no option 'numbr'. Did you mean 'number'\? Allowed: text, number"),
        ("odd", {"path": "x"}, "no option 'path'"),
        ("locl", {}, r"no backend 'locl' to run jobs. Did you mean 'local'\? Allowed: local, ray, slurm, kubernetes"),
        ("gone", {}, r"cannot be sent to gone from here: cluster.gone is not installed"),
        ("classless", {}, r"Nothing is not installed"),
    ],
)
def test_what_is_not_there_is_one_sentence(name, given, sentence, monkeypatch):
    monkeypatch.setitem(backends.BACKENDS, "gone", backends.Backend("cluster.gone:Gone"))
    monkeypatch.setitem(backends.BACKENDS, "classless", backends.Backend("cluster.job:Nothing"))
    with pytest.raises(LauncherError, match=sentence):
        backends.make(name, given)


def test_the_names_of_profiles_are_offered_too():
    with pytest.raises(LauncherError, match=r"Did you mean 'lab'\? .*odd, lab"):
        backends.backend("lap", ["lab"])
