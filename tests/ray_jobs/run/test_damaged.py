"""Damaged, hostile and newer records: each verb that reads a run ends with one sentence, and nothing of them runs."""

import json
import shutil
import sys
import warnings
from pathlib import Path

import pytest

from ray_jobs.errors import UsageError
from ray_jobs.run import records
from tests.ray_jobs.command import here

sys.path.insert(0, str(Path(__file__).parents[1]))
from toy import write_toy

EVIL = "<script>alert(1)</script>\x1b[31m"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A finished run of a tiny model, made once."""
    folder = tmp_path_factory.mktemp("toy")
    name = write_toy(folder)
    sys.path.insert(0, str(folder))
    here("train", name, "--out", folder / "run")
    yield folder / "run"
    sys.path.remove(str(folder))


@pytest.fixture()
def run(toy, tmp_path):
    """A copy of the run, to be damaged."""
    shutil.copytree(toy, tmp_path / "run")
    return tmp_path / "run"


def damaged(name: str, good: dict) -> list[bytes]:
    """Contents of a record that a disk, a stranger or another version may have written."""
    whole = json.dumps(good).encode()
    texts = [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"x"',
        b"{}",
        b"\xff\xfe\x00",
        b"\x00" * 40,
        whole[: len(whole) // 2],
        whole[:-1],
    ]
    texts += [b"[" * 100_000, b'{"a":' * 50_000, b'{"seed": ' + b"9" * 5000 + b"}", whole + b"x"]
    values = [None, True, -1, 1.5, 10**400, "x", EVIL, "\ud800", [], [1], {}, {"a": {"b": EVIL}}, float("nan")]
    changed = [good | {"format": 99}, good | {"format": 10**30}]
    for field in good:
        changed.append({k: v for k, v in good.items() if k != field})
        changed += [good | {field: value} for value in values]
    if "where" in good:
        odd = {"workers": 0}, {"gpus": 3}, {"accelerator": "tpu"}, {"threads": "2"}, {"max_failures": 2.5}
        changed += [good | {"where": good["where"] | more} for more in odd]
        changed += [good | {"settings": s} for s in ({"widht": 4}, {"width": "wide"}, {"width": None}, {"steps": -4})]
    return texts + [json.dumps(record).encode() for record in changed]


@pytest.mark.parametrize("name", ["run.json", "result.json", "status.json"])
def test_no_damage_ends_in_a_traceback(run, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = json.loads((run / name).read_text())
    cases = damaged(name, good)
    assert len(cases) >= 56
    for data in cases:
        (run / name).write_bytes(data)
        for verb in (("evaluate", run), ("report", run, "--out", tmp_path / "page.html")):
            said = _said(*verb)
            assert said is None or ("Traceback" not in said and said.count("\n") == 1 and "\x1b" not in said), (
                data[:200],
                said,
            )
        page = tmp_path / "page.html"
        assert not page.exists() or "<script" not in page.read_text()


@pytest.mark.parametrize("name", ["run.json", "result.json"])
def test_resume_and_sample_take_no_damaged_record(run, name, tmp_path):
    """A selection: those that cannot be continued, so that nothing is trained."""
    good = json.loads((run / name).read_text())
    for data in [*damaged(name, good)[:14], json.dumps(good | {"format": 99}).encode()]:
        (run / name).write_bytes(data)
        for verb in ("resume", "sample"):
            if verb == "resume" or name == "run.json":
                said = _said(verb, run)
                assert said and said.startswith("reprise: ") and said.count("\n") == 1, (data[:200], said)


def _said(*words) -> str | None:
    """The sentence of a command that was refused; None of one that was carried out."""
    import contextlib
    import io

    from ray_jobs.cli import main

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), warnings.catch_warnings():
        code = main([str(word) for word in words])
    assert code in (0, 2), printed.getvalue()
    return printed.getvalue() if code else None


def test_a_newer_record_is_called_so():
    with pytest.raises(UsageError, match=r"newer version of Reprise \(format 2; this one reads up to 1\): update"):
        records.record(b'{"format": 2, "recipe": 3}', "run.json", "run/run.json")


def test_the_field_that_is_wrong_is_named():
    good = {"recipe": "x", "settings": {}, "seed": 0, "where": {}}
    for more, words in [
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"where": {"gpus": 1}}, "the field where.'gpus' is unknown"),
        ({"where": {"workers": 0}}, "where.workers must be at least 1, not 0"),
        ({"settings": []}, "settings must be an object"),
        ({"recipe": "\x1b[2J"}, "recipe must be a text without control characters"),
        ({"settings": {"a": ["\x00"]}}, "settings.a must be a text without control characters"),
    ]:
        with pytest.raises(UsageError, match=words.replace("[", r"\[")):
            records.record(json.dumps(good | more).encode(), "run.json", "run/run.json")


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[1]", b'{"step": "1"}', b'{"step": 1, "loss": "x"}', b'{"step": -1}', b'{"step": 1, "\\u001b": 2}', b"[" * 9999]
)  # fmt: skip
def test_a_damaged_line_of_metrics_is_passed_over(line):
    assert records.metrics_line(line) is None
