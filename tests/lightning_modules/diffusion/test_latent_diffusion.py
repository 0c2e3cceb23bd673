"""Latent diffusion: a linear first stage of a Gaussian, where all is known; the scale of the latents; latents that were kept."""

import logging
import warnings

import lightning as L
import numpy as np
import pytest
import torch

from datamodules.base import Data, Endless, Finite, table
from datamodules.labs.gauss_image import GaussImage
from datamodules.latents import fingerprint, keep, kept
from lightning_modules.conditions import Cond
from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.denoising import by_label
from lightning_modules.diffusion.models.latent_diffusion import Latents, in_two_stages, latent_diffusion
from lightning_modules.draws import Draws
from lightning_modules.metrics.gaussian import frechet, frechet_of, gaussian_denoiser
from lightning_modules.nets.mlp import ResidualMLP
from lightning_modules.nets.unet import UNet
from lightning_modules.vae.autoencoder_kl import AutoencoderKL
from lightning_modules.vae.autoencoder_vq import AutoencoderVQ
from lightning_modules.vae.convolutional import Decoder, Encoder
from lightning_modules.vae.linear import PrincipalComponents, linear_autoencoder
from tests.two_processes import together

warnings.filterwarnings("ignore", module="lightning")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
TABLE = schedules.scaled_linear(200)


class Exact(torch.nn.Module):
    """The network that answers the exact noise of a Gaussian with independent entries of these variances."""

    def __init__(self, variances):
        super().__init__()
        self.variances = variances
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, level, cond):
        sigma = level.exp()[:, None]
        y = x * (1 + sigma**2).sqrt()
        return y * sigma / (self.variances.to(y) + sigma**2)


def fixed(**options):
    """The data, their best linear first stage, and the exact diffusion of its latents."""
    data = GaussImage()
    first = PrincipalComponents(data.mean, data.cov, 16, data.shape)
    space = Latents(first)
    space.measure(data.test(4096)["x"], Draws(1))
    variances = first.variances * space.scale.double() ** 2
    return data, first, space, latent_diffusion(Exact(variances), data.shape, space, levels=TABLE, **options)


def test_decoded_samples_miss_the_discarded_directions_and_nothing_else():
    """The squared Frechet distance of the whole law is the sum of the discarded eigenvalues, 1.2926 for 16 of 64; that of 20,000 exact
    samples is within 2% of it, which is 20 times the deviation of this estimate."""
    data, first, _, model = fixed(steps=200)
    axes = first.axes.double()
    decoded = axes @ torch.diag(first.variances) @ axes.T
    assert frechet(data.mean, decoded, data.mean, data.cov) == pytest.approx(first.discarded, rel=1e-5)
    assert first.discarded == pytest.approx(1.2926, abs=1e-4)
    x = model.sample(20_000, rng=torch.Generator().manual_seed(0), batch=20_000)
    assert frechet_of(x, (data.mean, data.cov)) == pytest.approx(first.discarded, rel=0.02)


def test_the_latents_are_independent_gaussians_of_unit_variance_altogether():
    data, first, space, _ = fixed()
    z = space.encode(data.test(50_000)["x"], Draws(0))
    expected = torch.diag(first.variances) * space.scale.double() ** 2
    torch.testing.assert_close(torch.cov(z.double().T), expected, rtol=0.04, atol=0.03)
    assert z.std().item() == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(space.decode(z[:9]), first.decode(first.moments(data.test(50_000)["x"][:9])))


def test_the_exact_denoiser_of_a_gaussian_is_that_of_the_laboratory():
    data, rng = GaussImage(), torch.Generator().manual_seed(0)
    y, s = torch.randn(5, *data.shape, generator=rng), torch.rand(5, generator=rng) + 0.1
    torch.testing.assert_close(gaussian_denoiser(data.mean, data.cov)(y, s), data.denoise(y, s), rtol=1e-4, atol=1e-5)


def test_the_roots_of_betas_rise_linearly():
    keep = 1 / (1 + schedules.scaled_linear(1000) ** 2)
    beta = 1 - keep / torch.cat([keep.new_ones(1), keep[:-1]])
    assert beta[[0, -1]].tolist() == pytest.approx([0.0015, 0.0195])
    assert beta.sqrt().diff().std() < 1e-9


# ---- the scale


class Pictures(Data):
    shape = (3, 8, 8)
    classes = 3

    def setup(self, stage):
        rng = torch.Generator().manual_seed(5)
        x = torch.rand(64, *self.shape, generator=rng) * 2 - 1
        whole = {"x": torch.cat([x, x.flip(-1)]), "label": (torch.arange(64) % 3).repeat(2)}
        self.source = Finite(128, table(**whole).take, forms=2)


def first_stage(kind=AutoencoderKL, **options):
    torch.manual_seed(0)
    sizes = {"width": 8, "multiples": (1, 2), "blocks": 1}
    outputs = 4 if kind is AutoencoderKL else 2
    return kind(Encoder(3, outputs, **sizes), Decoder(3, 2, **sizes), (3, 8, 8), (2, 4, 4), **options)


def two_stages(first=None, first_steps=3, steps=7, **options):
    first = first or first_stage()
    torch.manual_seed(1)
    net = UNet(2, width=8, multiples=(1,), blocks=1, attention=(0,), head=4, classes=3, label_token=True)
    conditions, hide = by_label(0.5)
    prior = latent_diffusion(net, first.shape, Latents(first), levels=TABLE, steps=4, conditions=conditions, hide=hide)
    return in_two_stages(first, prior, first_steps=first_steps, steps=steps, **options)


def fitted(model, steps=7, *, start=0, path=None, paired=None, **options):
    data = Pictures(batch=16)
    data.seed, data.start, data.paired = 3, start, paired
    model.prepare(3)
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, use_distributed_sampler=False, log_every_n_steps=1, **{"devices": 1} | options,
    )  # fmt: skip
    trainer.fit(model, data, ckpt_path=path)
    return trainer


def expected_scale(model):
    """By hand: one over the deviation of the first batch's latents, with the first stage as it ended."""
    data = Pictures()
    data.setup("fit")
    with torch.no_grad():
        z = model.autoencoder.eval().encode(data.source.rows(3, 0, 16, 0, 16)["x"], Draws(3))
    return 1 / z.std()


def test_the_scale_is_that_of_the_first_batch_when_the_first_stage_ends():
    model = two_stages()
    fitted(model, 3)
    assert model.prior.space.scale.item() == 1
    fitted(model := two_stages(), 7)
    torch.testing.assert_close(model.prior.space.scale, expected_scale(model))
    assert model.state_dict()["prior.space.scale"] == model.prior.space.scale != 1
    fitted(plain := two_stages(rescale=False), 5)
    assert plain.prior.space.scale == 1


def test_a_run_resumes_to_the_same_bits_around_the_boundary(tmp_path):
    whole = two_stages()
    fitted(whole)
    for step in (2, 3, 4):
        fitted(two_stages(), step).save_checkpoint(tmp_path / "part.ckpt")
        again = two_stages()
        fitted(again, start=step, path=tmp_path / "part.ckpt")
        assert all(torch.equal(v, again.state_dict()[k]) for k, v in whole.state_dict().items()), step


def worker(folder):
    from lightning.pytorch.strategies import DDPStrategy

    model = two_stages()
    trainer = fitted(model, devices=2, strategy=DDPStrategy(broadcast_buffers=False))
    torch.save(model.state_dict(), f"{folder}/{trainer.global_rank}.pt")


def test_two_workers_have_one_scale_and_take_the_steps_of_one(tmp_path):
    together(worker, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    fitted(alone := two_stages())
    assert all(torch.equal(first[k], second[k]) for k in first)
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(first[name], value, rtol=1e-2, atol=1e-3)


def test_latents_without_spread_are_refused():
    space = Latents(first_stage(AutoencoderVQ, codes=4))
    space.first.encoder.leave.weight.data.zero_()
    space.first.encoder.leave.bias.data.zero_()
    with pytest.raises(ValueError, match="have the standard deviation 0, so nothing can be learned"):
        space.measure(torch.zeros(4, 3, 8, 8), Draws(0))


def test_the_prior_needs_steps():
    with pytest.raises(ValueError, match="trains for 7 of 7 steps, which leaves none for the prior"):
        two_stages(first_steps=7, steps=7)


def test_a_codebook_is_diffused_before_it_quantises():
    first = first_stage(AutoencoderVQ, codes=4)
    space, x = Latents(first, 2.0), torch.rand(3, 3, 8, 8)
    z = space.encode(x, Draws(0))
    torch.testing.assert_close(z, 2 * first.encoder(x))
    torch.testing.assert_close(space.decode(z), first.decoder(first.quantise(first.encoder(x)).code))


def test_a_label_can_be_a_token_that_attention_sees():
    torch.manual_seed(0)
    net = UNet(2, width=8, multiples=(1,), blocks=1, attention=(0,), head=4, classes=3, label_token=True)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    x, level = torch.randn(4, 2, 4, 4), torch.zeros(4)
    zero, one = (net(x, level, Cond(label=torch.full((4,), k))) for k in (0, 1))
    assert not torch.allclose(zero, one)
    hidden = net(
        x, level, Cond(label=torch.tensor([0, 0, 1, 1]), hidden={"label": torch.tensor([True, False, True, False])})
    )
    torch.testing.assert_close(hidden, torch.stack([net(x, level)[0], zero[1], net(x, level)[2], one[3]]))
    assert net.condition.label is None and net.tokens.label.num_embeddings == 4
    with pytest.raises(ValueError, match="Labels must be in"):
        net(x, level, Cond(label=torch.full((4,), 3)))


# ---- latents that were kept


def moments_of(first):
    first.eval()
    return lambda x: first.moments(x).detach()


def make(folder, source, first, dtype="float32"):
    whose = fingerprint(first)
    keep(source, moments_of(first), folder, first_stage=whose, dtype=dtype)
    return kept(source, folder, first_stage=whose, dtype=dtype)


@pytest.mark.parametrize("kind", [AutoencoderKL, AutoencoderVQ])
def test_losses_of_kept_latents_are_those_of_live_ones(kind, tmp_path):
    options = {"codes": 4} if kind is AutoencoderVQ else {}
    model, data = two_stages(first_stage(kind, **options), 0), Pictures()
    data.setup("fit")
    source = make(tmp_path / "latents", data.source, model.autoencoder)
    assert source.size == 128 and source.forms == 2  # both mirror images
    model.eval()
    for step in range(3):
        live, cached = data.source.rows(3, step, 16, 0, 16), source.rows(3, step, 16, 0, 16)
        assert torch.equal(live["label"], cached["label"])
        model.prior.draws = Draws(3, step)
        one = model.prior.losses(live)
        model.prior.draws = Draws(3, step)
        torch.testing.assert_close(model.prior.losses(cached), one, rtol=1e-5, atol=1e-6)


def test_a_training_on_kept_latents_is_that_on_live_ones(tmp_path):
    weights = first_stage().state_dict()

    def trained(**options):
        model = two_stages(first_steps=0, steps=4)
        model.start({"autoencoder": weights})
        fitted(model, 4, **options)
        return model

    live = trained()
    cached = trained(paired=lambda source: make(tmp_path / "latents", source, two_stages().autoencoder))
    for name, value in live.state_dict().items():
        torch.testing.assert_close(cached.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_each_visit_draws_new_latents_of_the_same_moments(tmp_path):
    first, data = first_stage(), Pictures()
    data.setup("fit")
    moments = make(tmp_path / "latents", data.source, first).take(np.arange(4))["moments"]
    one, two = (Latents(first).of_moments(moments, Draws(0, step)) for step in (0, 1))
    assert not torch.equal(one, two)


def test_latents_of_another_first_stage_or_of_other_images_are_refused(tmp_path):
    first, data, folder = first_stage(), Pictures(), tmp_path / "latents"
    data.setup("fit")
    assert kept(data.source, folder, first_stage="x", dtype="float32") is None
    make(folder, data.source, first)
    with torch.no_grad():
        first.encoder.leave.bias += 1e-4
    with pytest.raises(ValueError, match="were cached by another first stage: remove that folder, or name another one"):
        kept(data.source, folder, first_stage=fingerprint(first), dtype="float32")
    first = first_stage()
    cropped = Finite(128, lambda index: {"x": data.source.take(index)["x"].roll(1, -1)}, forms=2)
    unmirrored = Finite(64, data.source.take)
    for other in (cropped, unmirrored):
        with pytest.raises(ValueError, match="cached of other images, or of another crop, size or mirroring"):
            kept(other, folder, first_stage=fingerprint(first), dtype="float32")
    with pytest.raises(ValueError, match="in another number format"):
        kept(data.source, folder, first_stage=fingerprint(first), dtype="float16")
    with pytest.raises(ValueError, match="not of streams or of a laboratory's fresh ones"):
        kept(Endless(lambda n, rng: {}), folder, first_stage="x", dtype="float32")


def test_latents_that_are_not_finite_are_not_kept(tmp_path):
    data = Pictures()
    data.setup("fit")
    with pytest.raises(ValueError, match="the examples 0 to 63 are not finite as float16"):
        keep(data.source, lambda x: x * 1e6, tmp_path / "latents", first_stage="x", dtype="float16")
    assert list(tmp_path.iterdir()) == []


def test_the_linear_autoencoder_is_a_space():
    data, first = GaussImage(), linear_autoencoder((1, 8, 8), 16)
    prior = latent_diffusion(ResidualMLP((16,), width=8, depth=1), data.shape, Latents(first), levels=TABLE, steps=3)
    assert prior.sample(5, rng=torch.Generator().manual_seed(0)).shape == (5, 1, 8, 8)
    assert list(prior.losses({"x": data.test(4)["x"]})) == ["noise_mse"]
    with pytest.raises(ValueError, match="has no bound"):
        prior.log_prob(data.test(2)["x"])
