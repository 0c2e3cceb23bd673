"""The options of submit: flags and profiles become one request, and an error names the file and line."""

import pytest

from ray_jobs.errors import UsageError
from ray_jobs.jobs.backend_options import options_of, read, variables
from tests.cluster import approving

LAB = """\
lab:
  on: shelf
  nodes: 2
  gpus_per_node: 8
  memory: 64GiB
  board: bottom
  slots: 3
  fragile: yes
  tilt: 1e-1
  labels: [a b, c]
  env: {PLAIN: x y, MY_TOKEN: }
top:
  on: shelf
  labels: one
shelf:
  slots: 7
"""


@pytest.fixture
def lab(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "s3cret")
    approving.write(LAB)


def test_a_profile_is_a_backend_with_its_options(lab):
    request = read("submit", ["--on", "lab", "train", "x", "--on", "ray"])
    assert (request.backend, request.profile, request.argv) == ("shelf", "lab", ("train", "x", "--on", "ray"))
    assert request.options == {"board": "bottom", "slots": 3, "fragile": True, "tilt": 0.1, "labels": ("a b", "c")}
    assert request.wanted == {"nodes": 2, "gpus": 8.0, "memory": "64GiB"}
    assert request.env == {"PLAIN": "x y", "MY_TOKEN": "s3cret"}
    assert read("submit", ["--on=top", "list"]).options == {"labels": ("one",)}


def test_flags_come_before_the_profile(lab):
    request = read(
        "submit", ["--nodes=1", "--gpus", "2", "--on", "lab", "--labels", "z", "--slots", "9", "--env", "A=1", "list"]
    )
    assert request.wanted == {"nodes": 1, "gpus": 2.0, "memory": "64GiB", "env": "A=1"}
    assert (
        request.options["slots"] == 9 and request.options["labels"] == ("z",) and request.options["board"] == "bottom"
    )


def test_a_profile_named_like_a_backend_sets_its_defaults(lab):
    request = read("submit", ["--on", "shelf", "list"])
    assert (request.backend, request.options) == ("shelf", {"slots": 7})
    assert read("submit", ["list"]).backend == "local"
    assert read("resubmit", [], "shelf").options == {}  # a job that is sent again has its own


@pytest.mark.parametrize(
    "words", [["--fragile", "--on", "shelf"], ["--on", "shelf", "--fragile"], ["--dry-run", "--on=shelf", "--fragile"]]
)
def test_the_backend_is_found_wherever_it_is_named(words):
    request = read("submit", [*words, "list"])
    assert (request.backend, request.argv, request.options) == ("shelf", ("list",), {"fragile": True})


@pytest.mark.parametrize(
    ("text", "on", "sentence"),
    [
        (
            "lab: {on: shelf, slotz: 2}",
            "lab",
            r"line 1: The profile lab \(shelf\) has no key 'slotz'. Did you mean 'slots'",
        ),
        ("lab:\n  on: shelf\n  slots: two", "lab", r"line 3: slots takes int, not 'two'"),
        ("lab: {on: shelf, slots: [1, 2]}", "lab", r"slots takes int"),
        ("lab: {on: shelf, nodes: 1.5}", "lab", r"nodes takes int, not '1.5'"),
        ("lab: {on: shelf, dry_run: true}", "lab", r"no key 'dry_run'"),
        ("lab: {on: shelf, name: x}", "lab", r"no key 'name'"),
        ("lab: {on: shelf, gpus: 1, gpus_per_node: 2}", "lab", r"mean the same"),
        ("lab: {on: shelf, env: {1A: 2}}", "lab", r"env in .*line 1 .*cannot name a variable"),
        ("lab: {on: shelf, env: {NOT_SET_ANYWHERE: }}", "lab", r"env in .*line 1 should pass on NOT_SET_ANYWHERE"),
        ("lab: {partition: gpu}", "lab", r"line 1: the profile 'lab' names no backend: add `on: slurm`"),
        ("lab: {}", "lab", r"names no backend"),
        ("lab: {on: slrum}", "lab", r"line 1: There is no backend 'slrum'. Did you mean 'slurm'"),
        ("lab: {on: lab2}\nlab2: {on: shelf}", "lab", r"no backend 'lab2'"),  # profiles are not chained
        ("lab: {on: shelf}", "lap", r"no backend 'lap' .*Did you mean 'lab'"),
        ("lab: {on: local, slots: 2}", "lab", r"The profile lab \(local\) has no key 'slots'.*grace"),
    ],
)
def test_what_is_wrong_in_a_profile_is_said_with_file_and_line(text, on, sentence):
    approving.write(text)
    with pytest.raises(UsageError, match=sentence):
        read("submit", ["--on", on, "list"])


def test_every_wrong_key_of_a_profile_is_told_at_once():
    approving.write("lab: {on: shelf, slots: two, tilt: steep, odd: 1}")
    with pytest.raises(UsageError, match=r"slots takes int.*tilt takes float.*no key 'odd'"):
        read("submit", ["--on", "lab", "list"])


def test_another_profile_that_is_wrong_disturbs_nobody():
    approving.write("bad: {on: shelf, slots: two}\nlab: {on: shelf}")
    assert read("submit", ["--on", "lab", "list"]).backend == "shelf"


def test_variables_are_read_as_a_shell_would(monkeypatch):
    monkeypatch.setenv("MINE", "m")
    assert variables("A=1 B='x y' MINE C= D=a=b") == {"A": "1", "B": "x y", "MINE": "m", "C": "", "D": "a=b"}


@pytest.mark.parametrize("backend", ["local", "ray", "slurm", "kubernetes"])
def test_every_option_of_a_backend_has_help(backend):
    assert [name for name, setting in options_of(backend).items() if not setting.help] == []
