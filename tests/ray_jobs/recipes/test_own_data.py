"""Systems by their own names, on a user's files, laboratories and environments, and recipes of a user's own."""

import json
import shutil
import sys

import numpy as np
import pytest
from scipy.io import wavfile

from ray_jobs import cli
from ray_jobs.errors import UsageError
from ray_jobs.recipe.loading import kind, recipe, systems
from ray_jobs.recipe.plan import Fit
from ray_jobs.recipe.settings import check, known
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.folder import Run
from ray_jobs.train import inspect
from ray_jobs.train.launch import launch, resume
from tests.ray_jobs.command import alike, newest

PIL = pytest.importorskip("PIL.Image")

TINY = {"steps": 4, "batch": 4, "save_every": 2, "log_every": 1}
IMAGES = {"size": 8}
NARROW = {"width": 8}
LABELLED = NARROW | IMAGES | {"drop": 0.5, "lr": 0.01, "warmup": 0}
CASES = [
    ("maf", "table", NARROW),
    ("iaf", "table", NARROW),
    ("nsf", "table", NARROW),
    ("nice", "table", NARROW),
    ("nice", "photos", NARROW | IMAGES),
    ("realnvp", "table", NARROW),
    ("realnvp", "photos", NARROW | IMAGES),
    ("glow", "photos", NARROW | IMAGES | {"depth": 2}),
    ("vae", "table", NARROW),
    ("vae", "photos", NARROW | IMAGES),
    ("gan", "table", NARROW),
    ("dcgan", "photos", NARROW | {"size": 16}),
    ("wgan", "photos", NARROW | {"size": 16}),
    ("wgan_gp", "table", NARROW),
    ("ddpm", "table", NARROW | {"levels": 25}),
    ("ddpm", "photos", {"size": 8, "width": 16, "levels": 25}),
    ("ddpm", "photos", {"size": 8, "width": 16, "levels": 25, "net": "dit"}),
    ("improved_ddpm", "table", NARROW | {"levels": 25}),
    ("improved_ddpm", "classes", LABELLED | {"levels": 25, "objective": "bound"}),
    ("edm", "table", NARROW),
    ("edm", "classes", LABELLED | {"net": "dit"}),
    ("flow_matching", "table", NARROW | {"transport": True}),
    ("flow_matching", "classes", LABELLED | {"transport": True}),
    ("ncsn", "table", NARROW | {"levels": 3, "repeats": 2}),
    ("ncsn", "classes", LABELLED | {"levels": 3, "repeats": 2}),
    ("progressive_distillation", "table", NARROW | {"first": 4, "halvings": 1, "teacher_steps": 2}),
    ("progressive_distillation", "photos", NARROW | IMAGES | {"first": 4, "halvings": 2, "teacher_steps": 1}),
    ("progressive_distillation", "photos", NARROW | IMAGES | {"halvings": 0, "net": "dit"}),
    ("consistency", "table", NARROW),
    ("autoencoder", "photos", NARROW | IMAGES | {"kind": "vq", "codes": 8}),
    (
        "ldm",
        "photos",
        NARROW | IMAGES | {"autoencoder_width": 8, "levels": 25, "sample_steps": 2, "kind": "vq", "codes": 8},
    ),
    ("ldm", "classes", LABELLED | {"autoencoder_width": 8, "levels": 25, "sample_steps": 2}),
    ("controlnet", "photos", NARROW | IMAGES),
    ("controlnet", "classes", LABELLED | {"control": "mask"}),
    ("cascade", "photos", {"size": 8, "width": 8, "factor": 2, "sample_steps": 2}),
    ("cascade", "classes", LABELLED | {"factor": 2, "sample_steps": 2, "blur": 0.5, "level": 0.1, "truncated": True}),
    ("cascade", "photos", {"size": 8, "width": 8, "factor": 2, "sample_steps": 2, "stage": "upsampler"}),
    ("consistency", "photos", NARROW | IMAGES | {"method": "training"}),
    ("glide", "captioned", NARROW | IMAGES | {"levels": 8, "text_width": 8, "text_depth": 1, "sample_steps": 2}),
    ("pixelcnn", "photos", NARROW | IMAGES | {"depth": 2, "head": 8}),
    ("row_lstm", "photos", NARROW | IMAGES | {"depth": 1, "head": 8}),
    ("diagonal_bilstm", "photos", NARROW | IMAGES | {"depth": 1, "head": 8}),
    ("made", "photos", NARROW | IMAGES),
    ("wavenet", "waves", {"size": 64, "layers": 3, "residual": 4, "skip": 4}),
    ("maf", "moons", NARROW),
    ("glow", "digits", NARROW | {"depth": 2}),
    ("made", "ising", NARROW),
    ("wavenet", "echoes", {"layers": 3, "residual": 4, "skip": 4}),
]
"""A system, its data and settings that make it small."""
ENVIRONMENT = """
import gymnasium as gym


def make(length: int = 20):
    return gym.make("Pendulum-v1", max_episode_steps=length)
"""
PACKAGE = """
from ray_jobs.recipe import Fit, Headline, fit

from .sizes import WIDTH


@fit(system="MAF", headline=Headline("Doe 2020"), data="two moons", steps=3, batch=8)
def mine(*, width: int = WIDTH) -> Fit:
    \"\"\"MAF on the moons.

    Args:
        width: units of the hidden layers.
    \"\"\"
    from datamodules.readers.own import read
    from lightning_modules.flows.maf import MAF

    rows = read("moons", kind="vectors")
    return Fit(MAF(rows.shape, depth=1, hidden=(width,)), rows)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A table, a folder of images of odd sizes, the same in directories of three classes and with captions, and one of waves, by name."""
    at, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    rows = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 3))
    np.savetxt(at / "table.csv", rows, delimiter=",", header="a,b,c", comments="")
    for name in ("photos", "waves"):
        (at / name).mkdir()
    for k in range(24):
        shape = (9 + 3 * k, 60 - 2 * k, 3)
        PIL.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(at / "photos" / f"{k}.png")
        (at / "classes" / "abc"[k % 3]).mkdir(parents=True, exist_ok=True)
        shutil.copy(at / "photos" / f"{k}.png", at / "classes" / "abc"[k % 3] / f"{k}.png")
        wave = (8000 * np.sin(np.arange(700 + k) * (0.05 + 0.01 * k))).astype(np.int16)
        wavfile.write(at / "waves" / f"{k}.wav", 8000, wave)
    shutil.copytree(at / "photos", at / "captioned")
    lines = [f"{k}.png,picture {'one' if k % 2 else 'two'} of noise\n" for k in range(24)]
    (at / "captioned" / "captions.csv").write_text("file_name,caption\n" + "".join(lines))
    folders = ("photos", "classes", "captioned", "waves")
    return {"table": str(at / "table.csv")} | {name: str(at / name) for name in folders}


def run_of(name, out, settings, seed=1):
    return launch(Spec(name, check(name, settings), seed, Where(address="local"), str(out)))


def stopped_at_its_middle(run, out):
    """A copy of a run as it was at its older checkpoint."""
    shutil.copytree(run.path, out)
    (out / "result.json").unlink()
    newest_one, older = Run.at(out).checkpoints()
    newest_one.unlink()
    return older


def refusal(*words, capsys):
    """The one sentence with which a command refuses."""
    capsys.readouterr()
    assert cli.main([str(word) for word in words]) == 2, words
    shown = capsys.readouterr().err
    assert shown.startswith("reprise: ") and shown.count("\n") == 1, shown
    return shown


def test_every_system_of_models_is_among_the_cases():
    assert {name for name, _, _ in CASES} == {n for n, r in systems().items() if kind(r) is Fit}


@pytest.mark.parametrize(("name", "data", "small"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_a_system_trains_measures_samples_and_resumes_to_the_same_bits(name, data, small, files, tmp_path):
    settings = TINY | small | {"data": files.get(data, data)}
    whole = run_of(name, tmp_path / "whole", settings)
    assert whole.result["step"] == 4 and all(np.isfinite(list(whole.result["metrics"].values())))
    assert any(m in whole.result["metrics"] for m in ("bits_per_dim", "nll", "sliced_w2", "loss")), whole.result
    stopped_at_its_middle(whole, tmp_path / "half")
    resume(str(tmp_path / "half"))
    assert alike(whole.path, tmp_path / "half")
    drawn = inspect.sample(str(whole.path), n=3, name="few")
    assert drawn.is_file() and len(np.load(whole.path / "few.npy")) == 3
    if "drop" in small:
        inspect.sample(str(whole.path), n=3, name="two", label="2", guidance=1.0)
        assert not np.array_equal(np.load(whole.path / "two.npy"), np.load(whole.path / "few.npy"))


@pytest.mark.parametrize(
    ("name", "env", "settings"),
    [("ppo", "Acrobot-v1", {"envs": 2}), ("sac", "ownlab:make", {"envs": 1, "warmup_steps": 100})],
)
def test_an_algorithm_trains_on_an_environment_and_resumes_to_the_same_bits(name, env, settings, tmp_path, monkeypatch):
    (tmp_path / "ownlab.py").write_text(ENVIRONMENT)
    monkeypatch.syspath_prepend(tmp_path)
    settings = {k: v for k, v in settings.items() if k in known(name)}
    small = {"env": env, "steps": 900, "save_every": 300, "log_every": 300, "eval_episodes": 2} | settings
    whole = run_of(name, tmp_path / "whole", small)
    assert np.isfinite(whole.result["metrics"]["episode_return"])
    stopped_at_its_middle(whole, tmp_path / "half")
    resume(str(tmp_path / "half"))
    assert alike(whole.path, tmp_path / "half")
    assert newest(whole.path)["step"] == newest(tmp_path / "half")["step"]


def test_an_environment_that_an_algorithm_cannot_take_names_those_that_can(tmp_path, capsys):
    shown = refusal(
        "train", "dqn", "--env", "Pendulum-v1", "--steps", 100, "--out", tmp_path / "r", "-q", capsys=capsys
    )
    able = shown.split("Algorithms that can learn on Pendulum-v1: ")[1].rstrip(".\n").split(", ")
    assert {"sac", "td3", "ddpg", "ppo"} <= set(able) and not {"dqn", "acer"} & set(able)


@pytest.mark.parametrize("verb", ["train", "tune"])
@pytest.mark.parametrize(("name", "missing"), [("ppo", "--env"), ("maf", "--data"), ("wavenet", "--data")])
def test_a_missing_environment_or_missing_data_are_one_sentence(verb, name, missing, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = refusal(verb, name, capsys=capsys)
    assert shown.startswith(f"reprise: {name} needs ") and missing in shown
    assert cli.main(["submit", "--dry-run", "train", name]) == 1
    assert f"cannot run: {name} needs " in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", ["", "nothing-there.csv", "photos"], ids=["none", "no file", "another kind"])
def test_data_that_cannot_be_used_are_one_sentence(words, files, tmp_path, capsys):
    given = files.get(words, words)
    shown = refusal("train", "maf", "--data", given, "--steps", 2, "--out", tmp_path / "r", "-q", capsys=capsys)
    assert ("such as --data" in shown) or given in shown


def test_submit_takes_the_words_of_train(files, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["ppo", "--env", "Acrobot-v1", "--steps", "500"]
    cli.main(["submit", "--dry-run", "train", *words])
    assert "ppo --env Acrobot-v1 --steps 500" in capsys.readouterr().out
    cli.main(["submit", "--dry-run", "tune", "maf", "--data", files["table"], "--steps", "4"])
    assert f"maf --data {files['table']}" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.fixture()
def package(tmp_path, monkeypatch):
    """A package with a recipe that imports its neighbour, and a module with two recipes."""
    before = list(sys.path)
    (tmp_path / "ownpack").mkdir()
    for name, text in (("__init__", ""), ("sizes", "WIDTH = 8\n"), ("one", PACKAGE)):
        (tmp_path / "ownpack" / f"{name}.py").write_text(text)
    second = PACKAGE.replace("def mine", "def other").split("from .sizes import WIDTH")[1]
    (tmp_path / "ownpack" / "two.py").write_text(PACKAGE + second)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "ownpack"
    sys.path[:] = before
    for name in [n for n in sys.modules if n.startswith("ownpack")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["ownpack/one.py", "ownpack/one.py:mine", "ownpack.one", "ownpack.two:mine"])
def test_a_recipe_of_a_users_own_trains_and_resumes(name, package, tmp_path, capsys):
    assert not cli.main(["train", name, "--batch", "4", "--save_every", "2", "--out", "run", "-q"])
    assert (tmp_path / "run" / "result.json").is_file()
    stopped_at_its_middle(Run.open(tmp_path / "run"), tmp_path / "half")
    cli.main(["resume", "half", "-q"])
    assert alike(tmp_path / "run", tmp_path / "half")


@pytest.mark.parametrize("name", ["ownpack.two", "ownpack/two.py"])
def test_a_module_of_several_recipes_needs_a_name(name, package, capsys):
    shown = refusal("train", name, capsys=capsys)
    assert "does not name one recipe" in shown and f"{name}:mine, {name}:other" in shown
    with pytest.raises(UsageError, match="declares"):
        recipe(f"{name}:third")


def test_a_module_that_is_not_there_is_one_sentence(package, capsys):
    assert "no file" in refusal("train", "ownpack/three.py", capsys=capsys)
    assert "ownpack.three cannot be imported" in refusal("train", "ownpack.three", capsys=capsys)


def test_a_renamed_recipe_says_its_new_name(tmp_path, capsys):
    assert "maf_power is now maf_uci" in refusal("train", "maf_power", capsys=capsys)
    assert "maf_gas is now maf_uci@gas" in refusal("tune", "maf_gas", capsys=capsys)
    run_of("maf", tmp_path / "run", TINY | NARROW | {"data": "moons"})
    stopped_at_its_middle(Run.open(tmp_path / "run"), tmp_path / "old")
    record = json.loads((tmp_path / "old" / "run.json").read_text()) | {"recipe": "maf_power", "git": "0123abcd"}
    (tmp_path / "old" / "run.json").write_text(json.dumps(record))
    for verb in ("resume", "evaluate", "sample"):
        shown = refusal(verb, tmp_path / "old", capsys=capsys)
        assert "maf_power" in shown and "maf_uci" in shown and "git commit 0123abcd" in shown
