"""What a run says its numbers were measured on, and data that cannot be measured or trained on."""

import json

import pytest

from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Play
from ray_jobs.recipe.spec import Spec
from ray_jobs.run.folder import Run
from ray_jobs.train.inspect import evaluate
from ray_jobs.train.launch import launch
from ray_jobs.train.models import splits

PIL = pytest.importorskip("PIL.Image")
SHORT = {"steps": 4, "batch": 20, "width": 20, "orders": 1, "log_every": 2}


def test_each_number_says_its_part_and_a_choosing_run_is_measured_on_another(tmp_path, capsys):
    runs = {
        on: launch(Spec("made_digits", SHORT, out=str(tmp_path / on), measured_on=on)) for on in ("test", "validation")
    }
    found = {on: run.result for on, run in runs.items()}
    assert found["test"]["splits"]["nats"].startswith("test") and found["validation"]["splits"]["nats"].startswith(
        "validation"
    )
    assert found["test"]["splits"]["loss"] == "train"
    assert found["test"]["metrics"]["nats"] != found["validation"]["metrics"]["nats"]
    for on, run in runs.items():
        assert Run.open(run.path).spec.measured_on == on
        assert evaluate(str(run.path), json=True)["nats"] == found[on]["metrics"]["nats"]
        assert json.loads(capsys.readouterr().out)["splits"]["nats"].startswith(on)


def test_data_whose_truth_is_known_are_measured_on_fresh_draws(tmp_path):
    run = launch(Spec("maf_density2d", {"steps": 2, "batch": 16, "width": 8, "depth": 1}, out=str(tmp_path / "r")))
    assert run.result["splits"]["excess_nats"] == "fresh draws"
    assert splits(run, ["excess_nats", "train_bits"]) == {"excess_nats": "fresh draws", "train_bits": "train"}


def test_an_agent_is_chosen_on_other_environments_than_it_is_measured_on(tmp_path):
    settings = {"steps": 128, "envs": 2, "eval_episodes": 4, "horizon": 16}
    found = {
        on: launch(Spec("ppo_cartpole", settings, out=str(tmp_path / on), measured_on=on)).result
        for on in ("test", "validation")
    }
    assert found["test"]["splits"]["episode_return"] == "fresh environments"
    assert found["validation"]["splits"]["episode_return"] == "validation environments"
    assert found["test"]["metrics"]["episode_return_std"] != found["validation"]["metrics"]["episode_return_std"]
    assert "env_steps" not in found["test"]["splits"]


def image(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.new("RGB", (32, 32), (shade, 2 * shade, 0)).save(path)


def of_images(folder, **settings):
    return Spec(
        "dcgan_cifar10",
        {"data_dir": str(folder / "i"), "width": 8, "num_workers": 0, **settings},
        out=str(folder / "run"),
    )


def test_without_a_held_out_part_nothing_is_trained(tmp_path):
    for k in range(8):
        image(tmp_path / "i" / "train" / f"{k}.png", k)
    with pytest.raises(UsageError, match="holds no image that is held out: put some into a folder test/ or val/"):
        launch(of_images(tmp_path, steps=3, batch=4))
    assert not list(Run(tmp_path / "run").metrics())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_beyond_the_data_is_refused_before_the_first_step(workers, tmp_path):
    for name in ("train/0.png", "train/1.png", "test/0.png"):
        image(tmp_path / "i" / name)
    with pytest.raises(UsageError, match="only 4 examples: take a smaller one"):  # each also mirrored
        launch(of_images(tmp_path, steps=3, batch=8, accumulate=8, num_workers=workers))


def test_held_out_images_that_are_trained_on_are_counted_beside_the_number(tmp_path):
    for k in range(6):
        image(tmp_path / "i" / "train" / f"{k}.png", k)
        image(tmp_path / "i" / "test" / f"{k}.png", k if k < 2 else 40 + k)
    run = launch(of_images(tmp_path, steps=1, batch=4))
    assert run.result["splits"]["sliced_w2"] == "test, 2 of it trained on"
    assert "2 of the held-out examples are training examples too" in (run.path / "log.txt").read_text()


def test_a_plan_has_no_setting_of_what_it_is_measured_on():
    from ray_jobs.recipe.settings import known

    assert "measured_on" not in known("ppo_cartpole")
    assert Play("ppo:PPO", "CartPole-v1", 10).measured_on == "test"
