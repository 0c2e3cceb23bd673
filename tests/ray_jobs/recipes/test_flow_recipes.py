"""Flows through the command line: a run on the plane leaves both densities to look at, two workers learn what one does, resume is exact."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ray_jobs.recipe.settings import build
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.folder import Run
from ray_jobs.train import fit
from ray_jobs.train.launch import launch
from tests.ray_jobs import two_workers
from tests.ray_jobs.command import equal, newest

SMALL = {
    "nsf_density2d": {"steps": 12, "batch": 32, "width": 8, "depth": 2, "bins": 4},
    "nice_density2d": {"steps": 3, "batch": 32, "width": 8},
    "realnvp_density2d": {"steps": 3, "batch": 32, "width": 8, "depth": 2, "density": "checkerboard"},
    "maf_density2d": {"steps": 3, "batch": 32, "width": 8, "depth": 2, "density": "funnel"},
    "iaf_density2d": {"steps": 3, "batch": 32, "width": 8, "depth": 2},
    "iaf_density2d@pinwheel8": {"steps": 3, "batch": 32, "width": 8, "depth": 2},
    "maf_density2d@mog_ring": {"steps": 3, "batch": 32, "width": 8},
    "nsf_density2d@clayton": {"steps": 3, "batch": 32, "width": 8, "depth": 2, "bins": 4},
    "maf_rotated43": {"steps": 3, "batch": 32, "width": 50, "depth": 2, "size": 8},
    "maf_tabular": {"steps": 3, "batch": 32, "width": 16, "depth": 2, "like": "power"},
    "glow_digits": {"steps": 3, "batch": 32, "width": 4, "depth": 1, "dequantiser": 4},
    "realnvp_digits": {"steps": 3, "batch": 32, "width": 4, "dequantiser": 4},
    "glow_gauss_image": {"steps": 3, "batch": 32, "width": 4, "depth": 1, "size": 4},
    "glow_gauss_image@textures": {"steps": 3, "batch": 32, "width": 4, "depth": 1, "size": 4},
}

LARGE = {
    "nice_cifar10": {"width": 16, "depth": 1},
    "realnvp_cifar10": {"width": 4, "depth": 1},
    "glow_cifar10": {"width": 4, "depth": 1, "dequantiser": 2},
}


def trained(name: str, out: Path, *, workers: int = 1, **more: object) -> Run:
    where = Where(address="local", workers=workers)
    start = launch if workers == 1 else two_workers.trained
    return start(Spec(name, SMALL[name] | more, 1, where, str(out)))


@pytest.mark.parametrize("name", SMALL)
def test_every_recipe_trains_and_measures_its_claim(name, tmp_path):
    from ray_jobs.recipe import loading

    run = trained(name, tmp_path)
    metric = loading.recipe(name).claim.metric
    assert torch.tensor(run.result["metrics"][metric]).isfinite()
    assert (run.path / "samples.png").exists()
    drawn, plane = np.load(run.path / "samples.npy"), name.endswith(("density2d", "ring"))
    assert len(drawn) == (2048 if plane else 64) and (drawn.shape[1:] == (2,)) == plane
    assert (run.path / "samples-density.png").exists() == plane


def test_a_run_that_was_stopped_continues_to_the_same_bits(tmp_path):
    whole = trained("nsf_density2d", tmp_path / "whole")
    spec = Spec("nsf_density2d", SMALL["nsf_density2d"], 1, Where(address="local"), str(tmp_path / "cut"))
    run = Run.create(spec, kind="Fit")
    asked = iter(range(100))
    assert not fit.fit(run, spec, should_stop=lambda: next(asked) >= 4)
    assert newest(run.path)["global_step"] == 5
    assert fit.fit(run, spec)
    assert equal(newest(run.path)["state_dict"], newest(whole.path)["state_dict"])


def test_two_workers_begin_with_one_norm_and_learn_what_one_does(tmp_path):
    """The norms are set by both workers' examples; the sums differ in their order alone."""
    one, two = (trained("nsf_density2d", tmp_path / str(n), workers=n) for n in (1, 2))
    a, b = (newest(run.path)["state_dict"] for run in (one, two))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", LARGE)
def test_recipes_of_the_paper_s_scale_make_models_of_their_images(name, seeded):
    """Narrowed: of black images a new model tells a code length that falls as it is trained."""
    made = build(name, LARGE[name])
    x = torch.full((4, *made.data.shape), -1.0)
    adam = torch.optim.Adam(made.model.parameters(), 3e-3)
    made.model.fit_norms({"x": torch.rand(4, *made.data.shape) * 2 - 1})
    losses = []
    for _ in range(4):
        loss = sum(made.model.losses({"x": x}).values())
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert made.model.bits_per_dim(x).isfinite().all()


@pytest.mark.parametrize(
    "name", ["maf_uci", *(f"maf_uci@{table}" for table in ("gas", "hepmass", "miniboone", "bsds300"))]
)
def test_recipes_of_the_tables_make_models_of_their_columns(name, seeded):
    pytest.importorskip("datamodules.readers.uci")
    made = build(name, {"width": 70, "depth": 2})
    x = torch.randn(64, *made.data.shape)
    assert made.model.losses({"x": x})["nll"].isfinite()
    assert made.model.log_prob(x).shape == (64,)
