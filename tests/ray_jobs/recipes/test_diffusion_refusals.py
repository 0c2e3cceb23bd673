"""What a user of diffusion can ask for in vain is one sentence and exit code 2, before anything is trained or drawn."""

import json

import numpy as np
import pytest

from ray_jobs import cli
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.train.launch import launch

PIL = pytest.importorskip("PIL.Image")

TINY = {"width": 8, "steps": 2, "batch": 4, "save_every": 2, "log_every": 1}
RUNS = {
    "plain": ("ddpm", {"data": "moons", "levels": 25}),
    "labelled": ("edm", {"data": "digits", "drop": 0.5}),
    "consistent": ("consistency", {"data": "moons"}),
    "scores": ("ncsn", {"data": "moons", "levels": 3, "repeats": 2}),
    "captioned": ("glide", {"data": "shapes", "levels": 8, "text_width": 4, "text_depth": 1, "sample_steps": 2}),
    "teacher": ("progressive_distillation", {"data": "moons", "first": 4, "halvings": 0}),
}
"""Finished runs, by name: the system and its settings."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with the runs, and with images in directories of classes and in none."""
    at, rng = tmp_path_factory.mktemp("refused"), np.random.default_rng(0)
    for name, (system, settings) in RUNS.items():
        launch(Spec(system, TINY | settings, 0, Where(address="local"), str(at / name)))
    (at / "long.txt").write_text("a small red circle\n" + "a " * 13)
    (at / "blank.txt").write_text("\n \n")
    for k in range(20):
        for folder in (at / "photos", at / "classes" / "ab"[k % 2]):
            folder.mkdir(parents=True, exist_ok=True)
            PIL.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(folder / f"{k}.png")
    return at


DISTIL = "train progressive_distillation --first 4 --halvings 1 --width 8 --teacher_steps 0"
SENTENCES = {
    "sample plain --guidance 2": "Guidance needs a model that hid its conditions",
    "sample plain --guidance 2 --label 3": "Guidance needs a model that hid its conditions",
    "sample labelled --guidance 2": "Guidance needs conditions to follow: give label",
    "sample plain --label 3": "built without labels",
    "sample labelled --label 10": "Labels must be in 0..9, not 10",
    "sample labelled --label -1": "whole numbers from 0 on",
    "sample captioned --prompt purple": "unknown word 'purple': this model knows a, at, the",
    "sample captioned --prompt=": "The prompt '' is empty: write words",
    "sample captioned --prompts long.txt": "has 13 words: this model takes at most 12",
    "sample captioned --prompts blank.txt": "blank.txt holds no prompt: write one in each line",
    "sample captioned --prompts none.txt": "none.txt cannot be read: No such file",
    "sample captioned --prompts photos/0.png": "cannot be read: it is no text in UTF-8",
    "sample captioned --prompts long.txt --prompt red": "leave one out",
    "sample captioned --guidance 2": "Guidance needs conditions to follow: give a prompt",
    "sample captioned --prompt red --label 1": "built without labels",
    "sample plain --prompt red": "takes no --prompt: that is for models of captions",
    "train glide --data photos": "holds no captions: put a captions.csv",
    "train glide --data nothing": "There are no images with captions 'nothing'",
    "train glide_shapes --clip_steps 2": "--clip_steps 2 is for a CLIP that guides: give --clip true too",
    "train glide_shapes --clip true --clip_steps 0": "The part 'clip' of glide_shapes would train for 0 steps: give it more, or --start",
    "train glide_shapes --clip true --clip_steps 9": "CLIP takes 9 of 4 steps",
    "train glide_shapes --clip true --clip_steps 2 --accumulate 2": "cannot be cut into 2 micro-batches",
    "sample plain --sampler multistep": "cannot be sampled by 'multistep': take ancestral, ",
    "sample consistent --sampler ddim": "cannot be sampled by 'ddim': take multistep",
    "sample plain --sampler best": "no sampler 'best'; there are ancestral, ",
    "sample plain --grid best": "no grid 'best'; there are spaced, ",
    "sample plain --steps 26": "there are 25 noise levels",
    "sample plain --steps 0": "at least 1 step, not 0",
    "sample plain --steps 24 --grid quadratic": "visit a level twice",
    "sample plain --steps 26 --grid trailing": "there are 25 noise levels",
    "sample labelled --steps 0": "at least 1",
    "sample labelled --steps -3": "at least 1",
    "sample plain --steps 0 --grid karras": "at least 1",
    "sample plain --steps 0 --grid geometric": "at least 1",
    "sample teacher --steps 0": "at least 1",
    "sample consistent --steps 0": "at least 1",
    "sample scores --steps 5": "all 3 levels of this model: leave the steps out",
    "train ddpm --data digits --levels 5": "take more levels",
    "train ddpm --data digits --levels 0": "--levels of ddpm must be at least 1",
    "train improved_ddpm --data digits --levels 1": "--levels of improved_ddpm must be at least 2",
    "train edm --data photos --size 9": "height and width must be multiples of 2, such as 8 x 8",
    "train edm --data photos --size 9 --net dit": "height and width must be multiples of 2, such as 8 x 8",
    "train ncsn --data photos --size 65 --net dit": "height and width must be multiples of 4, such as 64 x 64",
    "train edm --data moons --net dit": "--net dit is for images",
    "train edm --data moons --dropout 0.1": "--dropout 0.1 is for images",
    "train edm --data moons --drop 0.1": "--drop 0.1 hides labels in training, but 'moons' has none",
    "train edm --data photos --size 8 --drop 0.1": "lies in no directory of a class",
    "train edm --data classes --size 8 --drop 1": "--drop of edm must be at least 0 and below 1",
    "train consistency --data moons --method distillation": "improved | training",
    "train progressive_distillation --data moons --first 6 --halvings 2": "take first as a multiple of 4",
    f"{DISTIL} --data moons": "'teacher' of progressive_distillation would train for 0 steps: give it more, or --start teacher=RUN",
    f"{DISTIL} --data digits --start teacher=teacher": "The weights for 'teacher' do not fit",
    f"{DISTIL} --data moons --width 16 --start teacher=teacher": "The weights for 'teacher' do not fit",
    f"{DISTIL} --data moons --start teacher=plain": "plain is a run of ddpm, but --start teacher of progressive_distillation needs",
    f"{DISTIL} --data moons --start tutor=teacher": "no part to start 'tutor'",
    "train edm --data moons --start net=teacher": "edm starts from no other run",
}  # fmt: skip
"""A command line, and words of the sentence that refuses it."""


@pytest.mark.parametrize("line", SENTENCES)
def test_it_is_refused_in_one_sentence(line, lab, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(lab)
    words = line.split()
    if words[0] == "train":
        words += ["--out", str(tmp_path / "new"), "--steps", "4", "--batch", "4", "-q"]
    assert cli.main(words) == 2, capsys.readouterr()
    shown = capsys.readouterr().err
    assert shown.startswith("reprise: ") and shown.count("\n") == 1, shown
    assert SENTENCES[line] in shown
    assert not list(tmp_path.glob("new/metrics.jsonl")) and not list(tmp_path.glob("new/checkpoints/*"))


@pytest.mark.parametrize("verb", ["resume", "evaluate", "sample"])
def test_a_checkpoint_of_another_network_is_refused(verb, lab, tmp_path, capsys):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(lab / "teacher", other)
    record = json.loads((other / "run.json").read_text())
    record["settings"]["width"] = 16
    (other / "run.json").write_text(json.dumps(record))
    if verb == "resume":
        (other / "result.json").unlink()
    capsys.readouterr()
    assert cli.main([verb, str(other)]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "checkpoint" in shown, shown
