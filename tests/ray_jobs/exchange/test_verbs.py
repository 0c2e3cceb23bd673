"""`reprise export` and `reprise import`: a run to diffusers' files and back, the model card, and folders of strangers."""

import hashlib
import json
import os
import pickle
import re
import shutil
import sys

import numpy as np
import pytest
import torch

from ray_jobs import cli
from ray_jobs.exchange.verbs import export, import_network
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.folder import Run
from ray_jobs.train import fit, inspect, start
from ray_jobs.train.launch import launch

RECIPES = '''
from ray_jobs.recipe import Fit, Headline, fit

OPTIONS = {"system": "DDPM", "headline": Headline("Nobody"), "data": "digits", "steps": 3, "batch": 8, "log_every": 1, "ema": 0.5}


@fit(**OPTIONS)
def tiny(*, net: str = "unet", diffusers: bool = True, learned: bool = False) -> Fit:
    """DDPM | of <digits>.

    Args:
        net: which network.
        diffusers: whether diffusers has it.
        learned: whether the variance is learned.
    """
    from datamodules.readers.digits import Digits
    from ray_jobs.recipes.diffusion import ddpm, improved_ddpm
    from ray_jobs.recipes.diffusion.shared import image_net

    data = Digits()
    made = image_net(
        net, data, 8, multiples=(1, 2), blocks=1, head=8, depth=1, outputs=1 + learned, diffusers=diffusers
    )
    if learned:
        return Fit(improved_ddpm.of_pixels(made, data, ddpm.linear(25), "hybrid", diffusers), data)
    return Fit(ddpm.of_pixels(made, data, 25, diffusers), data)


@fit(**OPTIONS)
def flow() -> Fit:
    """A flow."""
    from datamodules.readers.digits import Digits
    from lightning_modules.flows.nice import NICE

    data = Digits()
    return Fit(NICE(data.shape), data)
'''


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder of recipes on the path, and a trained run of each network."""
    at = tmp_path_factory.mktemp("lab")
    (at / "exchangelab").mkdir()
    (at / "exchangelab" / "recipes.py").write_text(RECIPES)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(at)
        patch.chdir(at)
        for name, settings in {
            "unet": {},
            "dit": {"net": "dit", "learned": True},
            "plain": {"diffusers": False},
        }.items():
            train(name, settings)
        pytest.importorskip("safetensors", reason="safetensors is not installed: pip install -e '.[test]'.")
        export("unet", "folder")
        yield at


def train(out, settings):
    launch(Spec("exchangelab.recipes:tiny", settings, 5, Where(address="local", accelerator="cpu"), out))


@pytest.fixture()
def folder(lab, tmp_path):
    """A copy of the exported folder."""
    return shutil.copytree(lab / "folder", tmp_path / "folder")


def refusal(*words, capsys):
    """The one sentence with which a command refuses."""
    capsys.readouterr()
    assert cli.main([str(word) for word in words]) == 2, words
    shown = capsys.readouterr().err
    assert shown.startswith("reprise: ") and shown.count("\n") == 1, shown
    return shown


def raw_weights(run):
    return Run.open(run).latest()["state_dict"]


@pytest.mark.parametrize("net", ["unet", "dit"])
def test_a_run_goes_to_diffusers_and_comes_back_with_the_same_weights_and_samples(net, lab, tmp_path):
    ours = fit.trained(Run.open(net)).model
    export(net, str(tmp_path / "folder"))
    run = import_network(str(tmp_path / "folder"), out=str(tmp_path / "run"))
    again = fit.trained(Run.open(str(run))).model
    assert type(again) is type(ours) and again.draw.clip == ours.draw.clip
    assert again.bound.variance is ours.bound.variance
    for name, weight in ours.net.state_dict().items():
        assert torch.equal(again.net.state_dict()[name], weight), name
    torch.testing.assert_close(again.bound.levels, ours.bound.levels, rtol=1e-9, atol=0)
    for drawn in (net, str(run)):
        inspect.sample(drawn, n=2, seed=3, sampler="heun", steps=4, name="few")
    a, b = np.load(f"{net}/few.npy"), np.load(run / "few.npy")
    np.testing.assert_allclose(a, b, atol=1e-5)
    export(str(run), str(tmp_path / "second"))
    assert same(tmp_path / "folder", tmp_path / "second")


def same(a, b):
    """Whether two folders hold the same files but for the model cards."""
    found = [{f.relative_to(at): f.read_bytes() for f in at.rglob("*.*") if f.name != "README.md"} for at in (a, b)]
    return found[0] == found[1] and len(found[0]) >= 3


def test_diffusers_loads_the_folder_and_answers_the_same(lab):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install -e '.[test]'.")
    pipeline = diffusers.DDPMPipeline.from_pretrained("folder")
    ours, x = fit.trained(Run.open("unet")).model, torch.randn(2, 1, 8, 8)
    t = torch.tensor([0, 24])
    with torch.no_grad():
        expected = ours.net(x, ours.level_input(ours.bound.levels[t].float()))
        torch.testing.assert_close(pipeline.unet(x, t).sample, expected, rtol=1e-5, atol=1e-5)
    assert pipeline.scheduler.config.num_train_timesteps == 25
    assert np.isfinite(pipeline(batch_size=1, num_inference_steps=25, output_type="np").images).all()


def test_the_average_is_exported_unless_raw_weights_are_asked_for(lab, tmp_path):
    from safetensors.torch import load_file

    export("unet", str(tmp_path / "raw"), raw=True)
    name, at = "net.enter.weight", "unet/diffusion_pytorch_model.safetensors"
    state = Run.open("unet").latest()
    assert not torch.equal(state["state_dict"][name], start.averaged(state)[name])
    assert torch.equal(load_file(f"folder/{at}")["conv_in.weight"], start.averaged(state)[name])
    assert torch.equal(load_file(tmp_path / "raw" / at)["conv_in.weight"], state["state_dict"][name])
    assert "as they were trained" in (tmp_path / "raw" / "README.md").read_text()


def test_the_model_card_names_recipe_seed_step_and_the_hash_of_the_checkpoint(lab):
    card = (lab / "folder" / "README.md").read_text()
    checkpoint = Run.open("unet").checkpoints()[0]
    for row in (
        "| recipe | `exchangelab.recipes:tiny`: DDPM \\| of &lt;digits>. |",
        "| seed | 5 |",
        "| step | 3 |",
        "the average of the weights",
        f"SHA-256 `{hashlib.sha256(checkpoint.read_bytes()).hexdigest()}`",
        "| batch | 8 |",
        'DDPMPipeline.from_pretrained("folder")(batch_size=4, num_inference_steps=25)',
    ):
        assert row in card, row


def test_an_imported_network_trains_further_on_a_users_data(folder, tmp_path):
    where, settings = (
        Where(address="local", accelerator="cpu"),
        {"network": str(folder), "steps": 1, "batch": 4, "lr": 1e-6},
    )
    run = launch(Spec("pretrained", settings | {"data": "digits"}, 0, where, str(tmp_path / "more")))
    assert run.result["step"] == 1
    before, after = fit.trained(Run.open("unet")).model.net, fit.trained(run).model.net
    moved = max((a - b).abs().max().item() for a, b in zip(before.parameters(), after.parameters(), strict=True))
    assert 0 < moved < 1e-4


def test_an_imported_run_without_data_says_what_it_needs(folder, tmp_path, capsys):
    run = import_network(str(folder), out=str(tmp_path / "run"))
    assert Run.open(str(run)).result["step"] == 0
    assert Run.open(str(run)).read("run.json")["started_from"]["network"]["sha256"]
    assert "give --data" in refusal("evaluate", run, capsys=capsys)
    assert "is finished" in refusal("resume", run, capsys=capsys)


def test_what_cannot_be_exported_is_refused_in_one_sentence(lab, tmp_path, capsys):
    new = tmp_path / "new"
    assert "plain cannot be exported: " in refusal("export", "plain", new, capsys=capsys)
    assert "is not empty: name a new one" in refusal("export", "unet", lab, capsys=capsys)
    assert "takes diffusers, not 'onnx'" in refusal("export", "unet", new, "--to", "onnx", capsys=capsys)
    launch(Spec("exchangelab.recipes:flow", {}, 0, Where(address="local", accelerator="cpu"), str(tmp_path / "flow")))
    assert "no diffusion model but a" in refusal("export", tmp_path / "flow", new, capsys=capsys)
    assert not new.exists()


class Harmful:
    """A pickle of it makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_in_a_folder_is_never_read(folder, tmp_path, capsys):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    trap, pickled = tmp_path / "trap", pickle.dumps(Harmful(tmp_path / "trap"))
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickled)
    import_network(str(folder), out=str(tmp_path / "run"))  # safetensors are there: the pickle is left alone
    weights.write_bytes(pickled)
    assert "cannot be read as safetensors" in refusal("import", folder, "--out", tmp_path / "b", capsys=capsys)
    weights.unlink()
    assert "is a pickle, which can run code" in refusal("import", folder, "--out", tmp_path / "b", capsys=capsys)
    assert not trap.exists() and not (tmp_path / "b").exists()


def linked(path):
    other = path.parent.parent.parent / f"real-{path.name}"
    path.rename(other)
    path.symlink_to(other)


def linked_folder(path):
    linked(path.parent)


def edited(**changes):
    def edit(path):
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


WEIGHTS, CONFIG, SCHEDULE = (
    "unet/diffusion_pytorch_model.safetensors",
    "unet/config.json",
    "scheduler/scheduler_config.json",
)
BAD = {
    "linked weights": (WEIGHTS, linked, "no link is followed"),
    "linked configuration": (CONFIG, linked, "no link is followed"),
    "linked folder": (CONFIG, linked_folder, "no link is followed"),
    "cut weights": (WEIGHTS, lambda p: p.write_bytes(p.read_bytes()[:-100]), "cut off or damaged"),
    "no weights": (WEIGHTS, lambda p: p.unlink(), "holds no unet/diffusion_pytorch_model.safetensors"),
    "no scheduler": (SCHEDULE, lambda p: p.unlink(), "holds no scheduler_config.json"),
    "no json": (CONFIG, lambda p: p.write_text("{"), "no JSON file of diffusers"),
    "a list": (CONFIG, lambda p: p.write_text("[]"), "no JSON file of diffusers"),
    "deep": (CONFIG, lambda p: p.write_text("[" * 100_000), "no JSON file of diffusers"),
    "class": (CONFIG, edited(_class_name="UNet2DConditionModel"), "is of the class UNet2DConditionModel"),
    "groups": (CONFIG, edited(norm_num_groups=3), "cannot be imported: Our network has no attn_norm_num_groups 2: it must be 3"),
    "layers": (CONFIG, edited(layers_per_block=2), "is missing, and"),
    "widths": (CONFIG, edited(block_out_channels=[8, 32]), "is missing|shape|no weight|divided"),
    "terminal": (CONFIG, edited(_class_name="\x1b[2J"), r"\\x1b\[2J"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_folders_that_cannot_be_used_are_refused_in_one_sentence(case, folder, tmp_path, capsys):
    name, change, sentence = BAD[case]
    change(folder / name)
    assert re.search(sentence, refusal("import", folder, "--out", tmp_path / "run", capsys=capsys))
    assert not (tmp_path / "run").exists()


def test_an_index_of_parts_names_no_file_elsewhere(folder, tmp_path, capsys):
    weights = folder / WEIGHTS
    outside = tmp_path / "outside.safetensors"
    weights.rename(outside)
    index = weights.with_name(f"{weights.name}.index.json")
    index.write_text(json.dumps({"weight_map": {"conv_in.weight": "../../outside.safetensors"}}))
    assert "names files that are none of diffusers'" in refusal(
        "import", folder, "--out", tmp_path / "run", capsys=capsys
    )
    part = "diffusion_pytorch_model-00001-of-00001.safetensors"
    shutil.copy(outside, weights.with_name(part))
    index.write_text(json.dumps({"weight_map": {"conv_in.weight": part}}))
    import_network(str(folder), out=str(tmp_path / "run"))


def test_without_safetensors_one_sentence_says_how_to_get_it(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    assert "pip install 'reprise[exchange]'" in refusal("import", folder, "--out", tmp_path / "run", capsys=capsys)
