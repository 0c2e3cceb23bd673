"""Latent diffusion from a finished autoencoder: what is handed on, latents that are kept, and what is refused in one sentence."""

import numpy as np
import pytest
import torch

from ray_jobs import cli
from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.recipes.multistage import latent_diffusion
from ray_jobs.recipes.vae import autoencoders
from ray_jobs.run.folder import Run
from ray_jobs.train.launch import launch

TINY = {"data": "digits", "steps": 4, "batch": 8, "save_every": 2, "log_every": 1, "ema": 0.0}
FIRST = {"kind": "vq", "codes": 8, "width": 8}
PRIOR = {"kind": "vq", "codes": 8, "autoencoder_width": 8, "width": 8, "levels": 25, "sample_steps": 2, "drop": 0.5}


def autoencoder(at, seed=0, **more):
    return launch(Spec("autoencoder", TINY | FIRST | more, seed, Where(address="local"), str(at)))


def ldm(at, start=None, **more):
    start = {"autoencoder": str(start)} if start else {}
    steps = {"autoencoder_steps": 0} if start else {}
    return launch(Spec("ldm", TINY | PRIOR | steps | more, 1, Where(address="local"), str(at), start))


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with two finished autoencoders, one of them with a discriminator."""
    at = tmp_path_factory.mktemp("latents")
    autoencoder(at / "first", adversarial_from=1)
    autoencoder(at / "other", seed=1)
    return at


def weights(run, prefix):
    state = Run.open(str(run)).latest()["state_dict"]
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def test_a_diffusion_takes_the_autoencoder_of_an_adversarial_run_and_leaves_it_as_it_is(lab):
    run = ldm(lab / "prior", lab / "first")
    given, held = weights(lab / "first", "generator."), weights(run.path, "autoencoder.")
    assert given.keys() == held.keys() and all(torch.equal(v, held[k]) for k, v in given.items())
    assert weights(run.path, "prior.space.")["scale"] != 1
    assert run.result["metrics"]["codes_used"] > 0
    assert np.load(run.path / "samples.npy").shape == (64, 1, 8, 8)
    assert (lab / "first" / "samples-reconstructions.png").exists()


def test_training_on_kept_latents_is_training_on_live_ones(lab):
    folder = lab / "kept"
    live, cached = ldm(lab / "live", lab / "first"), ldm(lab / "cached", lab / "first", cache=str(folder))
    written = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    again = ldm(lab / "again", lab / "first", cache=str(folder))
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == written
    for other in (cached, again):
        torch.testing.assert_close(
            weights(other.path, "prior.net."), weights(live.path, "prior.net."), rtol=1e-4, atol=1e-5
        )


def test_two_workers_wait_for_the_one_that_writes(lab):
    spec = Spec(
        "ldm", TINY | PRIOR | {"autoencoder_steps": 0, "cache": str(lab / "together")}, 1,
        Where(workers=2, address="local"), str(lab / "two"), {"autoencoder": str(lab / "first")},
    )  # fmt: skip
    two, one = launch(spec), ldm(lab / "one", lab / "first")
    torch.testing.assert_close(weights(two.path, "prior.net."), weights(one.path, "prior.net."), rtol=1e-2, atol=1e-4)


def test_latents_of_another_autoencoder_are_refused(lab):
    ldm(lab / "a", lab / "first", cache=str(lab / "of_first"))
    with pytest.raises(UsageError, match="were cached by another first stage: remove that folder, or name another one"):
        ldm(lab / "b", lab / "other", cache=str(lab / "of_first"))


def test_what_does_not_fit_is_refused_in_one_sentence(lab, tmp_path, capsys):
    unfinished = Run.open(str(lab / "other")).path.parent / "unfinished"
    run = autoencoder(unfinished)
    record = run.path / "result.json"
    kept = record.read_text()
    record.unlink()
    common = "--data digits --steps 4 --batch 8 --width 8 --kind vq --codes 8 --levels 25"
    start, none = f"--start autoencoder={lab / 'first'}", "--autoencoder_steps 0"
    wide = "--autoencoder_width 8"
    sentences = {
        f"{common} {wide} {none} --start autoencoder={unfinished}": "unfinished is not finished: --start autoencoder needs a finished run",
        f"{common} {wide} {none}": "The part 'autoencoder' of ldm would train for 0 steps: give it more, or --start autoencoder=RUN",
        f"{common} --autoencoder_width 16 {none} {start}": "The weights for 'autoencoder' do not fit",
        f"{common} {wide} {start} --cache {lab / 'c'}": "give --autoencoder_steps 0 and --start autoencoder=RUN",
        f"{common} {wide} --autoencoder_steps 4": "trains for 4 of 4 steps, which leaves none for the prior",
        "--data moons --steps 4": "is for images, but an example of this data has the shape (2,)",
    }
    for i, (words, sentence) in enumerate(sentences.items()):
        assert cli.main(["train", "ldm", *words.split(), "--out", str(tmp_path / str(i)), "-q"]) == 2, words
        shown = capsys.readouterr().err
        assert sentence in shown and shown.count("\n") == 1, (words, shown)
    record.write_text(kept)


def test_recipes_at_the_papers_scale_have_the_papers_sizes():
    """On the meta device. Of the diffusion 280 M weights: its attention has no feed-forward layers, with which the paper's has 400 M."""
    with torch.device("meta"):
        kl, vq = (autoencoders.imagenet_stage(kind, 128, "", None) for kind in ("kl", "vq"))
        net = latent_diffusion.imagenet_net(vq, 192, 1000)
    assert kl.latents == (4, 32, 32) and vq.latents == (3, 64, 64) and len(vq.codebook) == 8192
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(280e6, rel=0.01)
