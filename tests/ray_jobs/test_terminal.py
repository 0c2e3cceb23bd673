"""What reaches the terminal: characters that it cannot show, texts that look like styles, readers that leave, and Ctrl-C."""

import io
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from ray_jobs import terminal
from ray_jobs.errors import printable, unknown
from ray_jobs.run import progress
from ray_jobs.run.folder import Run
from ray_jobs.train import fit, launch
from tests.ray_jobs.command import ENV, here, reprise, start, wait_for
from tests.ray_jobs.toy import write_toy

TRAIN = ("train", "maf_density2d", "--steps", 6, "--batch", 64, "--log_every", 2, "--save_every", 2)


# ---- what it cannot show


def test_a_terminal_of_another_encoding_gets_other_characters(tmp_path):
    with start(*TRAIN, "--out", tmp_path / "run", env={"PYTHONIOENCODING": "latin-1"}) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, (out, err)
    assert re.search(r"claim \w+ >= \d|claim \w+ <= \d", out) and "Traceback" not in err


@pytest.mark.parametrize("verb", ["list", "list --claims", "show ddpm_digits", "train ddpm_digits --help", "--help"])
def test_verbs_show_what_they_can(verb):
    with start(
        *verb.split(), env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ) as process:
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0 and out.isascii() and not err, err


def test_a_character_that_cannot_be_shown_has_a_meaningful_substitute():
    terminal.prepare()
    assert "mean ≥ 3 ± 1 é \ud800".encode("ascii", terminal.STAND_IN) == b"mean >= 3 +- 1 ? ?"


@pytest.mark.parametrize("stream", [1, 2])
def test_a_closed_stream_shows_nothing(stream):
    command = f"{sys.executable} -m ray_jobs.cli list {stream}>&-"
    done = subprocess.run(["sh", "-c", command], env=ENV, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and "Traceback" not in done.stderr


# ---- what looks like a style


ODD = "took [x] from [/tmp/a] and [bold]b[/] \x1b[31m"


def test_a_note_is_shown_as_it_is_where_the_output_is_a_terminal(tmp_path):
    shown = tmp_path / "shown"
    with open(shown, "w") as file:
        for report in progress._live("lab[x].mine", file):
            report({"note": ODD})
            report({"step": 1, "steps": 2, "metrics": {"[x]": 1.0}, "rate": 2.0, "unit": "[y]"})
    text = shown.read_text()
    assert printable(ODD) in text and "lab[x].mine" in text and "\x1b[31m" not in text


def test_a_note_is_shown_as_it_is_in_plain_lines():
    out = io.StringIO()
    progress._plain("lab[x].mine", out)({"note": ODD})
    assert out.getvalue() == f"lab[x].mine: {printable(ODD)}\n"


def test_texts_of_others_hold_no_control_characters():
    assert printable("a\x1b[2Jb\r\n\tc\u202ed\x85\ud800 é") == "a\\x1b[2Jb\\r\\n\\tc\\u202ed\\x85\\ud800 é"
    assert printable("a\nb", lines=True) == "a\nb"
    assert "\x1b" not in unknown("verb", "\x1b[2J", ["train"])


# ---- readers that leave


@pytest.mark.parametrize(
    "verb",
    ["list --claims", "list --json", "show ddpm_digits", "--help", "list", "train ddpm_digits --help", "jobs"],
)
def test_a_reader_that_leaves_ends_the_output_quietly(verb):
    command = f"{sys.executable} -m ray_jobs.cli {verb} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env=ENV, capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() in ("0", "141") and not done.stderr, done


def test_a_training_whose_reader_leaves_is_finished(tmp_path):
    words = " ".join(map(str, (*TRAIN, "--out", tmp_path / "run")))
    command = f"{sys.executable} -m ray_jobs.cli {words} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env=ENV, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() in ("0", "141") and not done.stderr, done
    assert Run(tmp_path / "run").result


def test_a_pipe_that_breaks_elsewhere_is_no_success(monkeypatch):
    """Only where stdout's own reader has gone is the end a quiet one."""
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr("ray_jobs.cli._main", lambda words: os.write(write, b"x"))
    with pytest.raises(BrokenPipeError):
        here("list")
    os.close(write)


# ---- Ctrl-C


def stepping(run):
    return (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text().count("\n") > 2


LONG = ("train", "maf_density2d", "--steps", 1_000_000, "--log_every", 5, "--save_every", 20)


def test_one_interrupt_saves_and_names_the_command_that_continues(tmp_path):
    with start(*LONG, "--out", tmp_path / "run") as process:
        wait_for(lambda: stepping(tmp_path / "run") and list((tmp_path / "run/checkpoints").glob("*.ckpt")), process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 130 and "Traceback" not in out + err, (out, err)
    assert f"Stopped. Everything is saved; continue with: reprise resume {tmp_path / 'run'}" in out
    assert Run(tmp_path / "run").read("status.json")["state"] == "stopped"


def test_an_interrupt_that_cannot_wait_says_what_is_kept(tmp_path):
    """In this process: the second interrupt comes while the first waits for a step that never ends."""
    code = f"""
import os, signal, sys, time
from ray_jobs.train import models
def stuck(run, spec, report, stop):
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
    time.sleep(100)
models.train = stuck
from ray_jobs.cli import main
sys.exit(main(["train", "maf_density2d", "--out", {str(tmp_path / "run")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, timeout=100)
    assert done.returncode == 130 and "Ctrl-C again stops it at once" in done.stderr, done
    assert "Stopped at once. It has no checkpoint yet and starts again; continue with: reprise resume" in done.stdout
    assert Run(tmp_path / "run").read("status.json")["state"] == "stopped"


def pressing(times, honest):
    """A function during which Ctrl-C is pressed so often; what it does is done whole, like a call that cannot be cut off."""

    def pressed(*args, **more):
        try:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
        finally:
            found = honest(*args, **more)
        return found

    return pressed


def keeps_its_folder(run):
    """Whether nothing of this process holds the run's folder any more, and its record says that it was stopped."""
    Run.open(run).lock().release()
    return Run(run).read("status.json")["state"] == "stopped"


CONCLUDING = {
    "saving": (Run, "save", 2, "It continues from its checkpoint of step 2"),
    "evaluating": (fit, "evaluate", 2, "It continues from its checkpoint of step 4"),
    "recording": (launch, "mark_unfinished", 1, "It continues from its checkpoint of step 1"),
}
"""What a run does when the second Ctrl-C comes, how many come there, and what is kept."""


@pytest.mark.parametrize("what", CONCLUDING)
def test_a_second_interrupt_while_a_run_concludes_is_one_sentence(what, tmp_path, monkeypatch, capfd):
    place, name, times, kept = CONCLUDING[what]
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(place, name, pressing(times, getattr(place, name)))
    if times == 1:  # the first one comes in the first step
        monkeypatch.setattr(Run, "log", pressing(1, Run.log))
    said = here("train", write_toy(tmp_path), "--out", tmp_path / "run", "-q", code=130)
    assert said == f"Stopped at once. {kept}; continue with: reprise resume {tmp_path / 'run'}\n"
    assert capfd.readouterr().err.count("Ctrl-C again stops it at once") == 1
    monkeypatch.undo()
    assert keeps_its_folder(tmp_path / "run")


def test_a_second_interrupt_while_a_finished_run_is_recorded_says_that_it_is_finished(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(Run, "release", pressing(2, Run.release))
    said = here("train", write_toy(tmp_path), "--out", tmp_path / "run", "-q", code=130)
    assert said == "Stopped at once. It is finished.\n"
    monkeypatch.undo()
    assert Run(tmp_path / "run").read("status.json")["state"] == "finished"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("finished") / "run"
    reprise(*TRAIN, "--out", out)
    return out


VERBS = (
    "evaluate {run}",
    "sample {run} --n 500",
    "report {run}",
    "list --claims",
    "doctor",
    "train maf_density2d --steps 100000 --out {new}",
)
VERBS += (
    "tune maf_density2d --steps 50000 --trials 2 --concurrent 1 --out {new}",
    "reproduce maf_density2d --seeds 2 --out {new}",
)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("after", [0.3, 2.0])
def test_an_interrupt_is_no_traceback(verb, after, finished, tmp_path):
    words = verb.format(run=finished, new=tmp_path / "new").split()
    with start(*words) as process:
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=200)
    assert "Traceback" not in out + err and process.returncode in (0, 130, -signal.SIGINT), (
        process.returncode,
        out,
        err,
    )
