"""`--ema_power` of a training, and `--ema` of sample and evaluate: snapshots in the run folder, and any width made of them."""

import numpy as np
import pytest
import torch

from ray_jobs import cli
from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.folder import Run
from ray_jobs.train import fit, inspect
from ray_jobs.train.averages import snapshots
from ray_jobs.train.launch import Stopped, create, launch, resume, run_to_end

RECIPE = '''
from ray_jobs.recipe import Fit, Headline, fit


@fit(system="S", headline=Headline("Nobody"), data="points", steps=12, batch=16, lr=0.05, ema=0.5, save_every=5, log_every=1)
def small() -> Fit:
    """EDM of points near a line."""
    from lightning_modules.diffusion.models.edm import edm
    from lightning_modules.nets.mlp import ResidualMLP
    from tests.ray_jobs.train.test_start import Points

    def measure(model, data):
        return {"length": sum(p.norm().item() for p in model.net.parameters())}

    return Fit(edm(ResidualMLP((2,), width=4, depth=1), (2,)), Points(), measure)
'''
SETTINGS = {"ema_power": "0.05,0.10", "ema_snapshots": 4}


def spec(out, **settings) -> Spec:
    return Spec("averagelab.one:small", SETTINGS | settings, 1, Where(address="local", accelerator="cpu"), str(out))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    at = tmp_path_factory.mktemp("averages")
    (at / "averagelab").mkdir()
    (at / "averagelab" / "one.py").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(at)
        yield launch(spec(at / "run"))


def weights(run: Run, ema: float | None = None) -> dict[str, torch.Tensor]:
    return dict(fit.trained(run, ema).model.state_dict())


def power(run: Run) -> dict:
    return run.latest()["callbacks"]["PowerEMA"]


def test_snapshots_are_kept_on_their_schedule_and_all_of_them(run):
    assert [path.name for path in snapshots(run, 12)] == [f"averages-{step:010d}.ckpt" for step in (3, 6, 9, 12)]
    assert len(snapshots(run, 8)) == 2 and len(run.checkpoints()) == 2
    state = run.load(snapshots(run, 12)[1])["averages"]
    assert state["steps"] == 6 and state["widths"] == [0.05, 0.10]


def test_a_width_that_was_tracked_is_given_back_and_others_lie_near(run):
    plain, tracked = weights(run), power(run)["averages"]
    for width, average in zip((0.05, 0.10), tracked, strict=True):
        found = weights(run, width)
        assert all(torch.allclose(found[name], value, atol=1e-6) for name, value in average.items())
        assert any(not torch.equal(found[name], plain[name]) for name in average)
    between = weights(run, 0.07)
    moved = [k for k, (a, b) in enumerate(zip(tracked[0].values(), tracked[1].values(), strict=True)) if not a.equal(b)]
    assert moved and all(
        (between[name] - near).norm() <= (near - far).norm() + 1e-6
        for (name, near), far in zip(tracked[0].items(), tracked[1].values(), strict=True)
    )


def test_a_stopped_run_resumes_to_the_same_bits(run, tmp_path):
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 7

    wanted = spec(tmp_path / "cut")
    with pytest.raises(Stopped):
        run_to_end(create(wanted, None), wanted, lambda event: None, stop)
    again = resume(str(tmp_path / "cut"))
    assert power(again)["steps"] == power(run)["steps"] == 12
    for one, two in zip(snapshots(again, 12), snapshots(run, 12), strict=True):
        mine, theirs = (r.load(path)["averages"]["averages"] for r, path in ((again, one), (run, two)))
        assert all(torch.equal(a[name], b[name]) for a, b in zip(mine, theirs, strict=True) for name in a)
    mine, theirs = weights(again, 0.08), weights(run, 0.08)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_samples_and_measures_are_of_the_width_that_is_asked_for(run, capsys):
    drawn = {}
    for name, width in (("plain", None), ("narrow", 0.05), ("wide", 0.2)):
        inspect.sample(str(run), n=8, name=name, ema=width)
        drawn[name] = np.load(run.path / f"{name}.npy")
    assert not np.allclose(drawn["plain"], drawn["narrow"]) and not np.allclose(drawn["narrow"], drawn["wide"])
    assert inspect.evaluate(str(run)) == pytest.approx(
        {k: run.result["metrics"][k] for k in inspect.evaluate(str(run))}
    )
    assert inspect.evaluate(str(run), ema=0.2) != inspect.evaluate(str(run))


def test_a_run_without_the_option_keeps_none_and_learns_the_same(run, tmp_path):
    plain = launch(spec(tmp_path / "plain", ema_power=""))
    assert not snapshots(plain, 12) and "PowerEMA" not in plain.latest()["callbacks"]
    mine, theirs = plain.latest()["state_dict"], run.latest()["state_dict"]
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    with pytest.raises(UsageError, match=r"keeps no averages that --ema 0.07 could be made of: train with --ema_power"):
        inspect.sample(str(plain), ema=0.07)


@pytest.mark.parametrize("text", ["0.05,x", "0.3", "0", "0.1,0.1", "nan"])
def test_widths_that_cannot_be_are_refused_before_anything_starts(text, tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(["train", "ddpm_mixture2d", "--ema_power", text, "--out", str(out)]) == 2
    assert "--ema_power takes different widths above 0 and below 0.2887" in capsys.readouterr().err
    assert not out.exists()


def test_a_width_that_cannot_be_is_refused(run):
    with pytest.raises(UsageError, match=r"--ema: .* above 0 and below 0.2887, not 0.5"):
        inspect.evaluate(str(run), ema=0.5)


def test_churn_reaches_the_sampler(run):
    drawn = {}
    for name, how in (
        ("heun", {"sampler": "heun"}),
        ("churned", {"sampler": "heun", "churn": 4.0}),
        ("silent", {"sampler": "heun", "churn": 4.0, "churn_min": 1e5, "churn_max": 1e6}),
        ("loud", {"sampler": "heun", "churn": 4.0, "churn_std": 2.0}),
    ):
        inspect.sample(str(run), n=8, name=name, **how)
        drawn[name] = np.load(run.path / f"{name}.npy")
    assert np.array_equal(drawn["heun"], drawn["silent"])
    assert not np.allclose(drawn["heun"], drawn["churned"]) and not np.allclose(drawn["loud"], drawn["churned"])


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"sampler": "ddim", "churn": 4.0}, "Only the samplers heun and churn add noise by churn"),
        ({"sampler": "ancestral", "churn_std": 1.0}, "Only the samplers heun and churn"),
        ({"sampler": "heun", "churn": -1.0}, "churn must be at least 0, not -1"),
        ({"sampler": "churn", "churn_min": 60.0}, "from churn_min 60 up to churn_max 50: no level"),
        (
            {"sampler": "heun", "churn": 4.0, "compare": True},
            "--compare draws by every sampler, and --churn is for one",
        ),
        ({"grid": "glide"}, "GLIDE's grid has 27 steps, not 18"),
    ],
)
def test_settings_of_sampling_that_cannot_be_are_refused(run, how, sentence):
    with pytest.raises(UsageError, match=sentence):
        inspect.sample(str(run), n=2, name="refused", **how)
