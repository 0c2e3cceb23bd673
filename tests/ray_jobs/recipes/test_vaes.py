"""VAEs through the command line: on two workers as on one, killed and resumed to the same bits, and what they show."""

import json

import numpy as np
import pytest
from matplotlib.image import imread

from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.report.report import report
from ray_jobs.train.inspect import sample
from ray_jobs.train.launch import launch
from tests.ray_jobs import two_workers
from tests.ray_jobs.command import equal, here, lines, newest, start, wait_for

SMALL = {"steps": 60, "batch": 20, "width": 16, "latents": 4, "free_bits": 0.3, "log_every": 5, "save_every": 10}


def small(out, workers=1, recipe="vae_digits", **more):
    train = launch if workers == 1 else two_workers.trained
    return train(Spec(recipe, SMALL | more, 1, Where(workers=workers, address="local"), str(out)))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return small(tmp_path_factory.mktemp("vae") / "run")


def test_two_workers_take_the_same_steps(plain, tmp_path):
    """Gradients agree up to the order of float32 sums."""
    two = small(tmp_path / "two", 2)
    free = [line["loss/kl"] for line in lines(plain.path)]
    assert len(free) == 12 and len(set(free)) > 1
    for a, b in zip(lines(plain.path), lines(two.path), strict=True):
        assert a["step"] == b["step"]
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)


@pytest.mark.fault("process", "a training of a VAE is killed, and resumed")
def test_a_killed_run_resumes_to_the_same_bits(plain, tmp_path, capfd, fault):
    words = [w for k, v in SMALL.items() for w in (f"--{k}", v)]
    with start("train", "vae_digits", *words, "--seed", 1, "--out", tmp_path / "killed") as process:
        wait_for(lambda: list((tmp_path / "killed/checkpoints").glob("*.ckpt")), process)
    assert not (tmp_path / "killed/result.json").exists()
    lost = lines(tmp_path / "killed")[-1]["step"] - newest(tmp_path / "killed")["global_step"]
    here("resume", tmp_path / "killed")
    fault.saw(capfd.readouterr().out, "continuing from step")
    fault.lost(max(0, lost), SMALL["save_every"])
    ours, whole = newest(tmp_path / "killed"), newest(plain.path)
    same = all(equal(ours[k], whole[k]) for k in ("state_dict", "optimizer_states", "callbacks", "global_step"))
    fault.equal(same and lines(tmp_path / "killed") == lines(plain.path))


@pytest.mark.parametrize("recipe", ["iaf_vae_digits"])
def test_the_other_kinds_train_on_two_workers(recipe, tmp_path):
    run = small(tmp_path / "run", 2, recipe, steps=10, hidden=16, depth=1)
    assert np.isfinite(run.result["metrics"]["elbo_bits_per_dim"])


def test_what_it_shows_is_drawn_and_in_the_report(plain, tmp_path):
    names = ("reconstructions", "interpolations")
    for name in names:
        assert imread(plain.path / f"samples-{name}.png").shape[0] > 300
    sample(str(plain.path), n=4, name="mine")
    assert all((plain.path / f"mine-{name}.png").exists() for name in names)
    page = report(out=str(tmp_path / "r.html"), runs=[str(plain.path)]).read_text()
    assert page.count("data:image/png;base64,") == 3 and all(name.capitalize() in page for name in names)
    assert json.loads((plain.path / "result.json").read_text())["metrics"]["bits_per_dim"] > 0
