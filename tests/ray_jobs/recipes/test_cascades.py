"""Recipes of cascades: their size at the paper's scale, stages that are runs of their own, and the choice of a level."""

import pytest
import torch

from lightning_modules.diffusion.models.cascade import Cascade, twin_of
from ray_jobs.errors import UsageError
from ray_jobs.recipe.loading import recipe
from ray_jobs.recipe.settings import build, known
from ray_jobs.recipe.spec import Spec
from ray_jobs.recipes.diffusion.shared import best_level
from ray_jobs.train.fit import prepare
from ray_jobs.train.launch import launch


def test_the_cascade_of_imagenet_has_the_papers_stages():
    model = build("cascade_imagenet", {"width": 8}).model
    assert isinstance(model, Cascade) and known("cascade_imagenet")["width"].default == 256
    assert [part.shape for part in model.parts] == [(3, 32, 32), (3, 64, 64), (3, 256, 256)]
    assert [part.net.enter.out_channels for part in model.parts] == [8, 8, 4]
    assert [part.net.condition.classes for part in model.parts] == [1000] * 3
    assert [twin_of(part).blur for part in model.parts[1:]] == [0.0, 0.5]
    assert model.parts[0].net.leave.out_channels == 6  # a learned variance
    assert [stage.steps for stage in model.stages] == [700_000, 400_000, 500_000]


@pytest.mark.parametrize(("stage", "shape"), [("base", (3, 32, 32)), ("to64", (3, 64, 64)), ("to256", (3, 256, 256))])
def test_each_stage_of_imagenet_is_a_part_of_the_whole(stage, shape):
    plan, whole = build("cascade_imagenet", {"width": 8, "stage": stage}), build("cascade_imagenet", {"width": 8}).model
    assert plan.model.shape == plan.data.shape == shape
    own = {name: weight.shape for name, weight in plan.model.state_dict().items()}
    assert own == {name: weight.shape for name, weight in whole.get_submodule(stage).state_dict().items()}
    assert stage in recipe("cascade_imagenet").needs


TINY = {
    "data": "digits", "factor": 2, "width": 8, "sample_steps": 2, "steps": 2, "batch": 4, "save_every": 1, "log_every": 1,
    "warmup": 0, "lr": 0.01, "ema": 0.5,
}  # fmt: skip


def test_a_cascade_starts_from_a_base_of_its_own_run(tmp_path):
    base = launch(Spec("cascade", TINY | {"stage": "base"}, 1, out=str(tmp_path / "base")))
    start = {"base": str(tmp_path / "base")}
    run = launch(Spec("cascade", TINY | {"base_steps": 0}, 2, out=str(tmp_path / "whole"), start=start))
    ours, theirs = run.latest()["state_dict"], base.latest()
    averages = next(kept["average"] for kept in theirs["callbacks"].values() if "average" in kept)
    for name, weight in {**theirs["state_dict"], **averages}.items():
        assert torch.equal(ours[f"base.{name}"], weight)
    assert "sliced_w2_0.5" in run.result["metrics"] and "chosen_level" in run.result["metrics"]


def test_a_base_without_steps_and_without_a_run_is_refused(tmp_path):
    with pytest.raises(
        UsageError, match="'base' of cascade would train for 0 steps: give it more, or --start base=RUN"
    ):
        launch(Spec("cascade", TINY | {"base_steps": 0}, 2, out=str(tmp_path / "whole")))


def test_the_level_is_chosen_by_one_score_and_reported_by_another():
    best, found = best_level((0.0, 0.5, 1.0), lambda s: -((s - 0.5) ** 2), lambda s: 10 * s)
    assert best == 0.5 and found == {0.0: 0.0, 0.5: 5.0, 1.0: 10.0}


@pytest.mark.parametrize("name", ["cascade_gauss_pair", "cascade_shapes"])
def test_training_must_have_the_levels_that_are_measured(name):
    with pytest.raises(UsageError, match=r"must be at least 1, not 0\.5"):
        prepare(Spec(name, {"most": 0.5}))
