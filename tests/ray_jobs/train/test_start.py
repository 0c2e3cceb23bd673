"""`--start NAME=RUN`: a part of a model starts from a finished run's averaged weights, and run.json says from which file."""

import hashlib

import pytest
import torch

from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.folder import Run
from ray_jobs.train import start
from ray_jobs.train.launch import Stopped, create, launch, resume, run_to_end
from tests.lightning_modules.test_staged import Line

RECIPES = '''
from ray_jobs.recipe import Fit, Headline, fit

OPTIONS = {"system": "S", "headline": Headline("Nobody"), "data": "points", "batch": 16, "lr": 0.05, "log_every": 1}


@fit(steps=6, ema=0.5, save_every=3, **OPTIONS)
def first() -> Fit:
    """A linear code of points near a line."""
    from tests.lightning_modules.test_staged import Autoencoder
    from tests.ray_jobs.train.test_start import Points

    return Fit(Autoencoder(), Points())


@fit(steps=6, ema=0.5, save_every=3, needs={"autoencoder": "startlab.both:first"}, **OPTIONS)
def second() -> Fit:
    """A prior on codes of another run."""
    from tests.lightning_modules.test_staged import staged
    from tests.ray_jobs.train.test_start import Points

    return Fit(staged(first=0, second=6), Points())


@fit(steps=2, **OPTIONS)
def alone() -> Fit:
    """A model that starts from nothing."""
    from tests.lightning_modules.test_staged import Autoencoder
    from tests.ray_jobs.train.test_start import Points

    return Fit(Autoencoder(), Points())
'''


class Points(Line):
    """Points near a line, and the first of them as held-out examples."""

    def test(self, n=None):
        self.setup("test")
        return self.source.rows(0, 0, 64, 0, n or 64)


LOCAL = Where(address="local", accelerator="cpu")


@pytest.fixture()
def lab(tmp_path, monkeypatch):
    (tmp_path / "startlab").mkdir()
    (tmp_path / "startlab" / "both.py").write_text(RECIPES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(name: str, out: str, **parts: str) -> Run:
    return launch(Spec(f"startlab.both:{name}", {}, 1, LOCAL, out, parts))


def test_a_part_starts_from_averaged_weights_and_run_json_names_the_file(lab):
    teacher = train("first", "first")
    student = train("second", "second", autoencoder="first")
    newest = teacher.checkpoints()[0]
    record = student.read("run.json")["started_from"]["autoencoder"]
    assert record["sha256"] == hashlib.sha256(newest.read_bytes()).hexdigest() and record["checkpoint"] == newest.name
    assert record["recipe"] == "startlab.both:first" and record["run"] == str(lab / "first")
    state = teacher.load(newest)
    averaged = start.averaged(state)
    moved = [k for k in averaged if not torch.equal(averaged[k], state["state_dict"][k])]
    assert moved, "an average that equals the weights would prove nothing"
    weights = student.latest()["state_dict"]
    for name, value in averaged.items():
        assert torch.equal(weights[f"autoencoder.{name}"], value), name


def test_a_run_that_started_from_another_resumes_to_the_same_bits(lab):
    train("first", "first")
    whole = train("second", "whole", autoencoder="first")
    spec = start.resolved(Spec("startlab.both:second", {}, 1, LOCAL, "cut", {"autoencoder": "first"}))
    run, asked = create(spec, None), []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 3

    with pytest.raises(Stopped):
        run_to_end(run, spec, lambda event: None, stop)
    (lab / "first").rename(lab / "gone")  # a resumed run needs its own checkpoint alone
    resume("cut")
    ours, theirs = whole.latest()["state_dict"], Run.open("cut").latest()["state_dict"]
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_what_cannot_be_started_from_is_refused_in_one_sentence(lab):
    teacher = train("first", "first")
    for name, parts, sentence in (
        ("alone", {"net": "first"}, r"alone starts from no other run: leave --start net=first out\."),
        ("second", {"teacher": "first"}, r"second has no part to start 'teacher'\..* Allowed: autoencoder\."),
        ("second", {"autoencoder": "nowhere"}, "nowhere is not a run folder"),
    ):
        with pytest.raises(UsageError, match=sentence):
            train(name, "out", **parts)
        assert not (lab / "out").exists()
    (teacher.path / "result.json").unlink()
    with pytest.raises(UsageError, match="first is not finished: --start autoencoder needs a finished run"):
        train("second", "out", autoencoder="first")


def test_a_run_that_changed_since_is_refused(lab):
    teacher = train("first", "first")
    run = create(start.resolved(Spec("startlab.both:second", {}, 1, LOCAL, "late", {"autoencoder": "first"})), None)
    run.release()
    teacher.checkpoints()[0].unlink()
    with pytest.raises(UsageError, match="has changed since late was made"):
        resume("late")


def test_a_checkpoint_of_another_version_is_refused_in_one_sentence(lab):
    from ray_jobs.train import models

    run = train("first", "first")
    state = run.load(run.checkpoints()[0])
    torch.save(state | {"state_dict": {f"old.{k}": v for k, v in state["state_dict"].items()}}, run.checkpoints()[0])
    with pytest.raises(UsageError, match=r"^The checkpoint .*first.* was written by an earlier version of Reprise"):
        models.evaluate(Run.open("first"))
