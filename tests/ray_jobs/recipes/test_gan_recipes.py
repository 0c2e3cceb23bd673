"""GANs through the training of recipes: steps, logs and checkpoints are the generator's, however the work is shared."""

import pytest

from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.folder import Run
from ray_jobs.train.fit import fit, trained
from ray_jobs.train.launch import launch
from tests.ray_jobs import two_workers
from tests.ray_jobs.command import equal, lines, newest

SETTINGS = {"steps": 24, "batch": 32, "width": 16, "log_every": 4, "save_every": 8}
STATE = ("state_dict", "optimizer_states", "callbacks", "global_step", "lr_schedulers")


def spec(out, workers=1, **settings) -> Spec:
    return Spec("wgan_gp_grid", SETTINGS | settings, 1, Where(workers=workers, address="local"), str(out))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return launch(spec(tmp_path_factory.mktemp("gans") / "run"))


def test_logs_and_checkpoints_are_at_the_generators_steps(plain):
    assert plain.result["step"] == 24
    assert [line["step"] for line in lines(plain.path)] == list(range(4, 25, 4))
    assert {"loss", "loss/discriminator_penalty", "grad_norm/generator"} <= set(lines(plain.path)[0])
    state = newest(plain.path)
    assert state["global_step"] == 24 and state["callbacks"]["EMA"]["steps"] == 24
    assert [o["state"][0]["step"].item() for o in state["optimizer_states"]] == [120, 24]


def test_the_generator_is_measured_with_its_averaged_weights(plain):
    model, state = trained(plain).model.state_dict(), newest(plain.path)
    for name, value in model.items():
        source = state["callbacks"]["EMA"]["average"] if name.startswith("generator.") else state["state_dict"]
        assert (value == source[name]).all(), name


def test_a_stopped_run_resumes_to_the_same_bits(plain, tmp_path):
    wanted = spec(tmp_path / "run")
    run, asked = Run.create(wanted, kind="Fit"), []
    assert not fit(run, wanted, should_stop=lambda: len(asked.append(1) or asked) > 9)
    assert newest(run.path)["global_step"] == 10
    assert fit(run, wanted)
    assert lines(run.path) == lines(plain.path)
    assert all(equal(newest(run.path)[k], newest(plain.path)[k]) for k in STATE)


def test_micro_batches_and_clipping(plain, tmp_path):
    cut = launch(spec(tmp_path / "cut", accumulate=2))
    for a, b in zip(lines(plain.path), lines(cut.path), strict=True):
        assert a == pytest.approx(b, rel=2e-3, abs=1e-5)
    held = launch(spec(tmp_path / "held", grad_clip=0.01))
    assert held.result["step"] == 24 and lines(held.path) != lines(plain.path)


def test_two_workers_train_the_same_model(plain, tmp_path):
    two = two_workers.trained(spec(tmp_path / "two", workers=2))
    for a, b in zip(lines(plain.path), lines(two.path), strict=True):
        assert a == pytest.approx(b, rel=2e-3, abs=1e-5)
