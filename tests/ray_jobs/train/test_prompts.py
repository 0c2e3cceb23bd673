"""`reprise sample RUN --prompt`: what is drawn, and which sample has which prompt."""

import numpy as np
import pytest

from ray_jobs import cli
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.train import inspect
from ray_jobs.train.launch import launch

SMALL = {
    "data": "shapes",
    "levels": 8,
    "width": 8,
    "text_width": 8,
    "text_depth": 1,
    "sample_steps": 2,
    "batch": 4,
    "steps": 6,
}
RED, BLUE = "a small red circle at the top left", "a large blue cross"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a model of captions, which has learned enough to tell them apart."""
    at = tmp_path_factory.mktemp("prompts") / "run"
    settings = SMALL | {"lr": 0.01, "warmup": 0, "save_every": 6, "log_every": 1}
    return launch(Spec("glide", settings, 0, Where(address="local"), str(at))).path


def drawn(run, **options):
    inspect.sample(str(run), n=4, name="x", **options)
    return np.load(run / "x.npy")


def test_a_prompt_is_that_of_every_sample_and_stands_in_a_file_beside_them(run):
    one = drawn(run, prompt=RED, guidance=2.0)
    assert (run / "x.txt").read_text() == f"{RED}\n" * 4 and (run / "x.png").is_file()
    assert np.array_equal(one, drawn(run, prompt=RED.upper() + "!", guidance=2.0))
    assert not np.array_equal(one, drawn(run, prompt=BLUE, guidance=2.0))
    assert not np.array_equal(one, drawn(run, prompt=RED))


def test_prompts_of_a_file_take_turns(run, tmp_path):
    (tmp_path / "p.txt").write_text(f"{RED}\n\n  {BLUE}\n")
    both = drawn(run, prompts=str(tmp_path / "p.txt"))
    assert (run / "x.txt").read_text() == f"{RED}\n{BLUE}\n" * 2
    np.testing.assert_allclose(both[::2], drawn(run, prompt=RED)[::2], rtol=0, atol=1e-5)
    np.testing.assert_allclose(both[1::2], drawn(run, prompt=BLUE)[1::2], rtol=0, atol=1e-5)


def test_without_a_prompt_samples_have_the_empty_caption_and_others_those_that_were_held_out(run):
    from datamodules.labs.shapes import Shapes, words

    assert not np.array_equal(drawn(run), drawn(run, prompt=RED))
    drawn(run)
    held_out = Shapes().test(16)["caption"]
    assert (run / "x-captions.txt").read_text().splitlines() == words(held_out)
    assert (run / "x-captions.png").is_file() and (run / "samples-captions.png").is_file()  # of the training's end


def test_the_command_takes_prompts_in_words(run, capsys):
    assert cli.main(["sample", str(run), "--prompt", RED, "--guidance", "3", "--n", "2", "--name", "y"]) == 0
    assert len(np.load(run / "y.npy")) == 2
