"""YAML that is wrong in any way: one sentence with file and line, no traceback, nothing run, and no more work than the bounds allow."""

import ast
import os
import random
import sys

import pytest
import yaml

from cluster import yaml_reader
from cluster.yaml_reader import MOST_BYTES, MOST_DEPTH, MOST_NODES, YamlError, loads
from ray_jobs.cli import main
from ray_jobs.errors import UsageError
from ray_jobs.recipe import settings
from tests.cluster import approving
from tests.ray_jobs.command import what_starts
from tests.ray_jobs.lab import ROOT

GOOD = b"lr: 1e-3\nsteps: 4\nbatch: 8  # small\nprecision: 32-true\ncompile: false\nema: 0.9\ngrad_clip: 1.0\n"
PROFILES = (
    b"lab:\n  on: local\n  name: toy\n  nodes: 1\n  env: {A: b, C: }\n  setup: [one, 'two three']\nbig: {on: slurm}\n"
)
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
)
ODD = (
    BOMB, "[" * 5000, "{a: " * 5000, "- " * 3000, "x: " + "9" * 5000, "seed: 1e99999", "lr: .nan", "lr: -.inf", "lr: null", "on: 1",
    "yes: no", "null: 1", "? [a]\n: b", "? {a: b}\n: c", "1: 2", "~: 1", "lr: 2024-99-99", "steps: 2024-02-31", "steps: 1:30",
    "steps: 010", "lr: [1, 2]", "lr: {a: 1}", "lr: !!python/object/apply:os.system ['touch mark']", "lr: !!int x", "lr: !x 1",
    "<<: {lr: 1}", "<<: *x", "lr: 1\nlr: 2", "grad-clip: 1\ngrad_clip: 2", "\tlr: 1", "lr:\t1", "a: b: c", "---\nlr: 1\n---\nlr: 2",
    "--- \n...\nx", "%YAML 9.9\n---\nlr: 1", "%YAML 1." + "1" * 5000 + "\n---\n", "%TAG ! x", "lr: \"\\UFFFFFFFF\"", "lr: \"\\ud800\"",
    "lr: \"\\0\"", "lr: 'x", "lr: \"x", "lr: |\n  x", "lr: >9\n x", "# nothing", "", "just text", "- 1\n- 2", "lr: @x", "lr: `x`",
    "lr: %x", "steps: true", "steps: 4.5", "compile: 1", "compile: maybe", "precision: 8", "steps: 1e3", "steps: '4'", "steps: 0x4",
    "steps: 99999999999999999999999", "steps: -1", "lr: &a 1", "lr: *a", "x" * 70_000, "k: v\n" * 20_000, "a" * 2000 + ": 1",
    "lr: 1\r\nsteps: 2\r\n", "lr: 1\rsteps: 2", "lr: 1\x85steps: 2", "lr: 1\u2028steps: 2", "\ufefflr: 1", "lr: 1\x1b[31m", "lr : 1",
    "lr: [", "lr: }", "lr: 1, steps: 2", "{lr: 1, steps}", "{lr: 1, lr: 2}", "!!set {a, b}", "!!binary aGk=", "lr: !!timestamp 2001-01-01",
    "=: 1", "lr: =", "? lr", "lr: 1\n steps: 2", " lr: 1\nsteps: 2", "lr: 0b11", "lr: 1_0", "lr: ++1", "lr: 0x", "lr: 1e", "lr: .",
)  # fmt: skip
BYTES = b"\xff\xfe \x00 \xc3\x28 \xed\xa0\x80 \x1b[2J \x07 &a *a !! [ } \xf0\x9f\x98\x80 ' \" # | % \xef\xbb\xbf \x7f .nan null".split(
    b" "
)
BYTES += [b"\n\t", b"---\n", b": ", b"- ", b"? ", b"\r", b"9" * 4400, b"<<: "]


def mutated(base: bytes, seed: int) -> bytes:
    """A text that was damaged, as a function of the seed: an odd text, or odd bytes at some places of a good one."""
    rng = random.Random(seed)
    if seed < len(ODD):
        return ODD[seed].encode("utf-8", "surrogatepass")
    data = bytearray(base if rng.random() < 0.7 else base + rng.choice(ODD).encode("utf-8", "surrogatepass"))
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(4)
        if how == 0:
            data[at:at] = rng.choice(BYTES)
        elif how == 1:
            data[at : at + rng.randrange(1, 9)] = b""
        elif how == 2:
            data[at : at + 1] = bytes([rng.randrange(256)])
        else:
            data = data[:at] + data[: rng.randrange(len(data) + 1)]
    return bytes(data)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder to be in, with a run that holds the place of all that could be trained."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "state"))
    for name in ("XDG_CONFIG_HOME", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "work/taken").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work/taken/run.json").write_text("{}")
    return tmp_path


def there(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


VERBS = {
    "train": "train ddpm_digits --config bad.yaml --out taken",
    "tune": "tune ddpm_digits --config bad.yaml --out taken --space.width choice(8)",
    "submit": "submit --name x/y train ddpm_digits --config bad.yaml --out taken",
}
"""Commands that read settings; where those are right, each is refused for another reason, so that nothing runs."""


@pytest.mark.parametrize("verb", VERBS)
def test_no_settings_file_brings_a_traceback_or_runs(verb, place, capsys):
    for seed in range(0, 300, 1 if verb == "train" else 3):
        (place / "work/bad.yaml").write_bytes(mutated(GOOD, seed))
        before = there(place)
        with what_starts() as ran:
            code = main(VERBS[verb].split())
        shown = capsys.readouterr()
        assert code == 2 and not shown.out, (seed, code, shown)
        assert shown.err.startswith("reprise: "), seed
        assert all(line.isprintable() for line in shown.err.splitlines()) and len(shown.err) < 2500, (seed, shown.err)
        assert there(place) == before and not ran, (seed, ran)


@pytest.mark.parametrize("line", ["submit --on lab --dry-run train ddpm_digits", "jobs", "resubmit x"])
def test_no_file_of_profiles_brings_a_traceback_or_sends(line, place, capsys):
    for seed in range(0, 300, 1 if line.startswith("submit") else 3):
        approving.write(mutated(PROFILES, seed), place / "work/clusters.yaml")
        before = there(place)
        code = main(line.split())
        shown = capsys.readouterr()
        assert code in (0, 1, 2) and "Traceback" not in shown.out + shown.err, (seed, shown)
        if code == 2:
            assert shown.err.startswith("reprise: ") and len(shown.err) < 2500, (seed, shown.err)
        assert there(place) == before, seed


@pytest.mark.parametrize(
    "make", [os.mkdir, os.mkfifo, lambda p: os.symlink("/dev/zero", p), lambda p: os.symlink("nowhere", p)]
)
@pytest.mark.parametrize("name", ["bad.yaml", "clusters.yaml"])
def test_what_is_no_file_is_one_sentence(make, name, place, capsys):
    make(place / "work" / name)
    line = VERBS["train"] if name == "bad.yaml" else "submit --on lab --dry-run train ddpm_digits"
    assert main(line.split()) == 2
    assert f"{name} cannot be read: " in capsys.readouterr().err


def test_a_wrong_value_is_named_with_its_file_and_line(place, capsys):
    for text, sentence in {
        "steps: 4\nema: null\n": "--ema of ddpm_digits (bad.yaml, line 2) takes float, not None.",
        "steps: 4\non: 1\n": "ddpm_digits (bad.yaml, line 2) has no setting 'on'.",
        "steps: 1:30\n": "--steps of ddpm_digits (bad.yaml, line 1) takes int, not '1:30'.",
        "\nlr: .nan\n": "--lr of ddpm_digits (bad.yaml, line 2) must be a finite number, not nan.",
        "lr: [1]": "--lr of ddpm_digits (bad.yaml, line 1) takes float, not [1].",
        "lr: 2024-01-31": "takes float, not '2024-01-31'.",
        "lr: 1\nlr: 2": "The settings file bad.yaml, line 2: 'lr' is there twice: keep one.",
        "grad-clip: 1\ngrad_clip: 2": "bad.yaml, line 2: 'grad_clip' is there twice: keep one.",
        f"steps: {'9' * 5000}": "--steps of ddpm_digits (bad.yaml, line 1) takes int, not '9999",
        "steps: 99999999999999999999": "must be a whole number below 2^63, not 1.000e+20.",
    }.items():
        (place / "work/bad.yaml").write_text(text)
        assert main(VERBS["train"].split()) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1E+3", 1e3), (".5", 0.5), ("5.", 5.0), ("-1", -1), ("+1", 1), ("010", 10), ("0o10", 8), ("0x10", 16),
        ("300_000", 300_000), ("yes", "yes"), ("off", "off"), ("NO", "NO"), ("1:30", "1:30"), ("2024-01-31", "2024-01-31"), ("~", None),
        ("null", None), ("", None), ("True", True), ("FALSE", False), ("'true'", "true"), ("'1'", "1"), (".inf", float("inf")),
        ("inf", "inf"), ("0b11", "0b11"), ("1_", "1_"), ("\u0663", "\u0663"), ("[1, a, [2]]", [1, "a", [2]]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("9" * 401, "9" * 401), ("=", "="), ("<<", "<<"),
    ],
)  # fmt: skip
def test_plain_values_are_those_of_yaml_1_2(text, value):
    assert loads(text) == value and type(loads(text)) is type(value)


def test_what_is_written_is_read_as_it_was():
    values = {
        "a": 1,
        "b": 1e-5,
        "d": "yes",
        "e": None,
        "f": True,
        "g": [1, 2],
        "h": "2024-01-01",
        "i": "1:30",
        "j": float("inf"),
    }
    assert loads(yaml.safe_dump(values)) == values


@pytest.mark.parametrize(
    "option", ["--steps=1:30", "--lr=yes", "--lr=nan", "--lr=.nan", "--steps=[1]", "--lr=*a", "--steps=" + "9" * 30]
)
def test_the_command_line_reads_values_in_the_same_way(option, capsys):
    assert main(["train", "ddpm_digits", option]) == 2
    assert capsys.readouterr().err.startswith(f"reprise: {option.partition('=')[0]} of ddpm_digits ")


def test_yes_and_no_are_true_and_false_where_that_is_meant(tmp_path):
    (tmp_path / "a.yaml").write_text("compile: off\nlr: 0.1\n")
    known = settings.known("ddpm_digits")
    assert settings.from_file("ddpm_digits", known, str(tmp_path / "a.yaml")) == {"compile": False, "lr": 0.1}


def test_yaml_is_read_in_one_place():
    readers = {
        "load",
        "safe_load",
        "full_load",
        "unsafe_load",
        "load_all",
        "safe_load_all",
        "compose",
        "compose_all",
        "parse",
        "scan",
    }
    for package in ("cluster", "ray_jobs", "datamodules", "lightning_modules"):
        for file in (ROOT / package).rglob("*.py"):
            used = {
                n.attr
                for n in ast.walk(ast.parse(file.read_text()))
                if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "yaml"
            }
            assert not used & readers, f"{file} reads YAML without the bounds of cluster.yaml_reader"


# ---- bounds


def nodes_read(text: str, monkeypatch) -> int:
    """How many values were looked at before a text was refused."""
    loaders = []
    made = yaml_reader._Bounded.__init__
    monkeypatch.setattr(yaml_reader._Bounded, "__init__", lambda self, t: (loaders.append(self), made(self, t))[1])
    with pytest.raises(YamlError):
        loads(text)
    return loaders[0].nodes


@pytest.mark.parametrize(
    ("text", "most"),
    [
        (BOMB, 3),
        ("[" * 60_000, MOST_DEPTH + 1),
        ("- x\n" * 15_000, MOST_NODES + 1),
        ("{a: " * 15_000, 2 * MOST_DEPTH + 1),
    ],
    ids=["aliases", "deep", "long", "deep mappings"],
)
def test_the_work_is_bounded_by_nodes(text, most, monkeypatch):
    assert nodes_read(text, monkeypatch) <= most


def test_the_work_is_bounded_by_bytes(tmp_path):
    huge = tmp_path / "huge.yaml"
    with open(huge, "wb") as file:
        file.truncate(2**40)  # holes: it takes no room, but nobody could read it whole
    with pytest.raises(YamlError, match=f"more than {MOST_BYTES // 1024} KiB"):
        yaml_reader.read(huge)
    with pytest.raises(UsageError, match=r"huge\.yaml cannot be read: it has more than"):
        settings.from_file("ddpm_digits", settings.known("ddpm_digits"), str(huge))


def test_reading_needs_no_more_frames_than_its_depth():
    assert sys.getrecursionlimit() // 4 > MOST_DEPTH * 6
