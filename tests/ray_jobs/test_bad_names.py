"""Names of recipes, variants, settings, runs and searches that are wrong in any way: one sentence, exit code 2, nothing run."""

import random

import pytest

from ray_jobs.cli import main
from tests.ray_jobs.command import what_starts

PIECES = (
    "ddpm_digits", "ppo", "é", "ñandú", "模型", "🚀", "\u202e", "\u200b", "\x1b[31m", "\x00", "\n", "\r\n", "\t",
    " ", "  ", "..", "/", "../",
    "/etc/passwd", "//", "\\", ":", "::", "@", "@@", ".", "...", ".py", "x.py", "-", "--", "-h", "--help", "=", "'", '"', "`id`", "$(id)",
    "${HOME}", "%s", "{}", "{0}", "[x]", "[bold]", "*", "?", "~", "~root", "#", ";", "|", "&", "<x>", "s3://", "s3://b", "file:///x",
    "http://[", "memory://x", "\udc80", "\ud800", "A" * 300, "x" * 5000, "a." * 200, "con", "nul", "None", "True", "0", "1e9", "import",
    "os",
    "json", "os.path", "ray_jobs", "ray_jobs.cli", "__main__", "sys:exit", "_", "__class__", "self", "ﬁ", "İ", "ß",
)  # fmt: skip


def name(seed: int) -> str:
    """A name as a function of the seed: each piece alone, then some of them together."""
    rng = random.Random(seed)
    if seed < len(PIECES):
        return PIECES[seed]
    return "".join(rng.choice(PIECES) for _ in range(rng.randrange(2, 5)))


LINES = {
    "recipe": lambda n: ["train", n, "--out", "taken"],
    "variant": lambda n: ["train", f"ddpm_digits@{n}", "--out", "taken"],
    "show": lambda n: ["show", n],
    "reproduce": lambda n: ["reproduce", n, "--seeds", "0"],
    "setting": lambda n: ["train", "ddpm_digits", f"--{n}", "1", "--out", "taken"],
    "value": lambda n: ["train", "ddpm_digits", "--lr", n, "--out", "taken"],
    "file": lambda n: ["train", "ddpm_digits", "--config", n, "--out", "taken"],
    "space": lambda n: ["tune", "ddpm_digits", f"--space.{n}", "choice(1)", "--out", "taken"],
    "range": lambda n: ["tune", "ddpm_digits", "--space.lr", f"choice({n}", "--out", "taken"],
    "search": lambda n: ["tune", "--resume", n],
    "family": lambda n: ["list", n],
    "run": lambda n: ["evaluate", n],
    "resumed": lambda n: ["resume", n],
    "start": lambda n: ["train", "ddpm_digits", "--start", f"x={n}", "--out", "taken"],
    "job": lambda n: ["cancel", n],
    "verb": lambda n: [n, "x"],
    "profile": lambda n: ["submit", "--on", n, "train", "ddpm_digits", "--out", "taken"],
}
"""Command lines with a name at one place; each is refused even where the name is a good one."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder to be in, with a run that holds the place of all that could be trained."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REPRISE_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "work/taken").mkdir(parents=True)
    (tmp_path / "work/taken/run.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def there(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


HELP = ("-h", "--help")
GOOD = {"show": ("ddpm_digits", "ppo"), "verb": (*HELP,)}


@pytest.mark.parametrize("what", LINES)
def test_no_name_brings_a_traceback_or_runs(what, place, capsys):
    for seed in range(0, 300, 1 if what in ("recipe", "setting") else 3):
        words = LINES[what](name(seed))
        before = there(place)
        with what_starts() as ran:
            try:
                code = main(words)
            except SystemExit as done:
                code = done.code
        shown = capsys.readouterr()
        assert "Traceback" not in shown.out + shown.err, (words, shown.err)
        if code == 0 and not set(words) & {*HELP, "--h"} and name(seed) not in GOOD.get(what, ()):
            assert what in ("show", "family"), (words, shown.out)
        if code:
            assert code == 2 and shown.err.startswith("reprise: "), (words, code, shown)
            assert shown.err.isprintable() or shown.err[:-1].replace("\n", "").isprintable(), (words, shown.err)
            assert shown.err.encode() and len(shown.err) < 6000, (words, len(shown.err))
        assert there(place) == before and not ran, (words, ran)
