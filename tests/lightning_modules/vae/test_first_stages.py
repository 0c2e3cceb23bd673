"""First stages: gradients by owner, straight-through codes, use of the codebook, restarts, and what a discriminator adds."""

import copy
import logging
import math
import warnings

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from datamodules.base import Data, table
from datamodules.labs.gauss_image import GaussImage
from lightning_modules.draws import Draws
from lightning_modules.gan.adversarial_autoencoder import AdversarialAutoencoder, ratio
from lightning_modules.gan.losses import hinge
from lightning_modules.gan.patch_gan import PatchDiscriminator
from lightning_modules.metrics.efficientnet import EfficientNetLite0
from lightning_modules.optim import Adam
from lightning_modules.start import load_parts
from lightning_modules.vae.autoencoder_kl import AutoencoderKL, divergence
from lightning_modules.vae.autoencoder_vq import AutoencoderVQ, nearest, perplexity
from lightning_modules.vae.convolutional import Decoder, Encoder
from lightning_modules.vae.first_stage import absolute
from lightning_modules.vae.linear import PrincipalComponents, linear_autoencoder
from lightning_modules.vae.perceptual import Perceptual
from tests.two_processes import together

warnings.filterwarnings("ignore", module="lightning")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
SIZES = {"width": 8, "multiples": (1, 2), "blocks": 1}
SHAPE, LATENTS = (3, 8, 8), (2, 4, 4)


def vq(**options):
    torch.manual_seed(0)
    return AutoencoderVQ(Encoder(3, 2, **SIZES), Decoder(3, 2, **SIZES), SHAPE, LATENTS, **{"codes": 6} | options)


def kl(**options):
    torch.manual_seed(0)
    return AutoencoderKL(Encoder(3, 4, **SIZES), Decoder(3, 2, **SIZES), SHAPE, LATENTS, **options)


def images(n=4, seed=1):
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def with_gradient(model):
    """The names of the parts, up to the first dot, whose weights have a gradient that is not zero."""
    return {k.split(".")[0] for k, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


@pytest.mark.parametrize(
    ("term", "owners"),
    [
        ("reconstruction", {"encoder", "decoder"}),
        ("codebook", {"codebook"}),
        ("commitment", {"encoder"}),
    ],
)
def test_each_loss_of_a_codebook_moves_its_owner_alone(term, owners):
    model = vq()
    model.losses({"x": images()})[term].backward()
    assert with_gradient(model) == owners


def test_beta_weighs_the_commitment_and_nothing_else():
    one, four = (vq(beta=b).losses({"x": images()}) for b in (1.0, 0.25))
    assert four["commitment"].item() == pytest.approx(0.25 * one["commitment"].item())
    assert four["codebook"].item() == one["codebook"].item() == pytest.approx(one["commitment"].item())


def test_gradients_pass_a_code_as_if_it_were_the_latent():
    """d decode / d z_e is d decode / d z_q, exactly."""
    model, z = vq(), torch.randn(3, *LATENTS, generator=torch.Generator().manual_seed(2)).requires_grad_()
    weights = torch.randn(3, *SHAPE)
    (through,) = torch.autograd.grad((model.decode(z) * weights).sum(), z)
    code = model.quantise(z).code.detach().requires_grad_()
    (direct,) = torch.autograd.grad((model.decoder(code) * weights).sum(), code)
    assert torch.equal(through, direct)


def test_the_nearest_code_is_that_of_the_least_distance():
    rng = torch.Generator().manual_seed(0)
    rows, codes = torch.randn(500, 3, generator=rng), torch.randn(40, 3, generator=rng)
    assert torch.equal(nearest(rows, codes), torch.cdist(rows.double(), codes.double()).argmin(1))


def test_the_perplexity_of_uniform_use_is_the_number_of_codes():
    assert perplexity(torch.full((37,), 5.0, dtype=torch.float64)).item() == pytest.approx(37)
    assert perplexity(torch.tensor([0.0, 9.0, 0.0])).item() == pytest.approx(1)
    assert perplexity(torch.tensor([3.0, 1.0])).item() == pytest.approx(4 / 27**0.25)  # entropy log 4 - (3/4) log 3
    assert vq().logged() == {"perplexity": 1.0, "codes_used": 0.0}  # exp(0) before the first count


class Pictures(Data):
    shape = SHAPE

    def setup(self, stage):
        self.source = table(x=images(32, seed=7))


def fitted(model, steps, *, start=0, path=None, accumulate=1, **options):
    """The model after its training, in which every global batch has 8 images, and its logged metrics."""
    data = Pictures(batch=8)
    data.accumulate, data.seed, data.start = accumulate, 3, start * accumulate
    model.prepare(3, accumulate=accumulate)
    alone = {"accumulate_grad_batches": accumulate} if model.automatic_optimization else {}
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, use_distributed_sampler=False, log_every_n_steps=1, **alone, **{"devices": 1} | options,
    )  # fmt: skip
    trainer.fit(model, data, ckpt_path=path)
    return trainer


def far_codes(**options):
    """A model of which one code is nearest to all latents, and five are far away."""
    model = vq(optim=Adam(1e-3), patience=4, **options)
    with torch.no_grad():
        model.codebook[1:] += 100
    return model


def test_codes_that_are_not_used_restart_at_latents_of_the_batch():
    model = far_codes()
    fitted(model, 4)
    assert (model.codebook[1:].abs() > 50).all() and (model.used > 0).tolist() == [True] + [False] * 5
    seen = model.seen.clone()
    moved = far_codes()
    trainer = fitted(moved, 5)
    assert moved.codebook.abs().max() < 50
    torch.testing.assert_close(moved.codebook[1:], seen[1:], rtol=0, atol=2e-3)  # one step of Adam behind
    assert len(seen[1:].unique(dim=0)) == 5
    assert trainer.callback_metrics["codes_used"] > 1 / 6 and trainer.callback_metrics["perplexity"] > 1


def test_without_patience_no_code_restarts():
    model = far_codes()
    model.patience = 0
    fitted(model, 9)
    assert (model.codebook[1:].abs() > 50).all()


def test_restarts_resume_to_the_same_bits(tmp_path):
    whole = far_codes()
    fitted(whole, 9)
    for step in (3, 4):
        half = far_codes()
        fitted(half, step).save_checkpoint(tmp_path / "half.ckpt")
        again = far_codes()
        fitted(again, 9, start=step, path=tmp_path / "half.ckpt")
        assert all(torch.equal(v, again.state_dict()[k]) for k, v in whole.state_dict().items()), step


def test_micro_batches_restart_the_same_codes_at_the_same_latents():
    one, four = far_codes(), far_codes()
    fitted(one, 6), fitted(four, 6, accumulate=4)
    assert torch.equal(one.used, four.used)
    torch.testing.assert_close(one.codebook, four.codebook, rtol=1e-3, atol=1e-3)


def adversarial(start=2, **options):
    torch.manual_seed(0)
    judge = PatchDiscriminator(3, width=4, halvings=1, kind="none")
    return AdversarialAutoencoder(far_codes(), judge, start=start, optim=Adam(1e-3, betas=(0.5, 0.9)), **options)


def worker(folder):
    for make in (far_codes, adversarial):
        model = make()
        trainer = fitted(model, 6, devices=2, strategy=DDPStrategy(broadcast_buffers=False))
        torch.save(model.state_dict(), f"{folder}/{make.__name__}{trainer.global_rank}.pt")


def test_two_workers_take_the_steps_of_one(tmp_path):
    together(worker, tmp_path)
    for make in (far_codes, adversarial):
        one, two = (torch.load(tmp_path / f"{make.__name__}{rank}.pt", weights_only=True) for rank in (0, 1))
        fitted(alone := make(), 6)
        for key, value in alone.state_dict().items():
            assert torch.equal(one[key], two[key]), key
            torch.testing.assert_close(one[key], value, rtol=1e-2, atol=2e-3)


def test_before_its_start_the_discriminator_neither_moves_nor_counts():
    plain = far_codes()
    plain.optim = Adam(1e-3, betas=(0.5, 0.9))
    judged = adversarial(start=4)
    before = copy.deepcopy(judged.discriminator.state_dict())
    fitted(plain, 4), fitted(judged, 4)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(judged.generator.state_dict()[key], value, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(v, before[k]) for k, v in judged.discriminator.state_dict().items())
    later = adversarial(start=4)
    trainer = fitted(later, 5)
    assert any(not torch.equal(v, before[k]) for k, v in later.discriminator.state_dict().items())
    assert trainer.callback_metrics["loss/generator_adversarial"] != 0


def test_the_hinge_and_the_ratio_are_their_definitions():
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0])
    assert hinge(real, fake).item() == pytest.approx(((0 + 1) / 2 + (0 + 2) / 2) / 2)
    assert ratio(torch.tensor([3.0, 4.0]), torch.tensor([2.0])).item() == pytest.approx(2.5, rel=1e-4)
    assert ratio(torch.tensor([1e9]), torch.tensor([1.0])).item() == 1e4
    assert ratio(torch.tensor([3.0]), torch.tensor([0.0])).item() == 1e4


def test_the_adversarial_loss_has_the_weighted_gradient_of_the_distance_in_the_last_layer():
    model = adversarial(start=0, weight=0.5)
    model.trainer = L.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    x = images()
    terms = model.generator_losses(x, model.fakes({"x": x}))
    norms = [
        torch.autograd.grad(terms[k], model.generator.last_weight, retain_graph=True)[0].norm().item()
        for k in ("reconstruction", "adversarial")
    ]
    assert norms[1] == pytest.approx(0.5 * norms[0], rel=0.05)  # the 1e-4 of the definition is not nothing here


def test_the_divergence_is_that_of_the_two_gaussians():
    mean, std = torch.randn(5, 2, 3), torch.rand(5, 2, 3) + 0.1
    of = torch.distributions
    expected = of.kl_divergence(of.Normal(mean, std), of.Normal(torch.zeros(()), torch.ones(()))).flatten(1).sum(1)
    torch.testing.assert_close(divergence(mean, std), expected)


def test_the_divergence_weighs_against_the_summed_distance_of_an_image():
    model, x = kl(kl_weight=0.3), images()
    model.draws = Draws(5)
    terms = model.losses({"x": x})
    made = model.decode(model.encode(x, Draws(5)))
    entries = math.prod(SHAPE)
    summed = (made - x).abs().flatten(1).sum(1).mean() + 0.3 * divergence(*model.moments(x).chunk(2, 1)).mean()
    torch.testing.assert_close(sum(terms.values()) * entries, summed)


def test_latents_are_draws_of_the_posterior():
    """Mean and deviation of 4,000 draws of one latent, within 5 standard errors."""
    model = kl()
    with torch.no_grad():
        moments = model.moments(images(1))
        drawn = model.draw(moments.expand(4000, -1, -1, -1), Draws(1))
    mean, std = moments.chunk(2, 1)
    assert ((drawn.mean(0) - mean[0]).abs() < 5 * std[0] / 4000**0.5).all()
    assert ((drawn.std(0) / std[0] - 1).abs() < 5 / 8000**0.5).all()


def test_a_linear_autoencoder_comes_within_two_percent_of_the_best():
    """The error that no linear map to 16 numbers goes below is the sum of the discarded eigenvalues, 1.2926."""
    data = GaussImage(batch=512)
    torch.manual_seed(0)
    model = linear_autoencoder(data.shape, 16, optim=Adam(1e-2, decay_steps=400))
    made = model.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    for step in range(400):
        model.draws = Draws(0, step)
        optimizer.zero_grad()
        sum(model.losses(data.source.rows(0, step, 512, 0, 512)).values()).backward()
        optimizer.step(), schedule.step()
    best = PrincipalComponents(data.mean, data.cov, 16, data.shape)
    assert best.discarded == pytest.approx(1.2926, abs=1e-4)
    x = data.test(20_000)["x"]
    with torch.no_grad():
        error = (model.decode(model.encode(x, Draws(1))) - x).square().flatten(1).sum(1).mean()
        least = (best.decode(best.moments(x)) - x).square().flatten(1).sum(1).mean()
    assert 0.999 < error / least < 1.02


def test_the_perceptual_distance_is_zero_of_an_image_to_itself_and_moves_only_the_images():
    torch.manual_seed(0)
    distance = Perceptual(EfficientNetLite0())
    x, other = torch.rand(2, 1, 16, 16) * 2 - 1, (torch.rand(2, 1, 16, 16) * 2 - 1).requires_grad_()
    found = distance(x, other)
    assert distance(x, x).tolist() == [0, 0] and found.shape == (2,)
    found.sum().backward()
    assert (found > 0).all() and other.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in distance.net.parameters())
    model = kl(perceptual=distance)
    assert set(model.losses({"x": images()})) == {"reconstruction", "perceptual", "kl"}
    assert not [k for k in model.state_dict() if "_bn0" in k] and absolute(x, x).tolist() == [0, 0]


def test_an_autoencoder_starts_from_the_generator_of_an_adversarial_run():
    source, model = adversarial(), nn.Module()
    model.autoencoder = vq()
    load_parts(model, {"autoencoder": source.state_dict()})
    assert torch.equal(model.autoencoder.codebook, source.generator.codebook)
    with pytest.raises(ValueError, match="do not fit"):
        load_parts(model, {"autoencoder": {f"critic.{k}": v for k, v in vq().state_dict().items()}})


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="at least 2 codes, not 1"):
        vq(codes=1)
    with pytest.raises(ValueError, match=r"was built for examples of shape \(3, 8, 8\), not \(3, 16, 16\)"):
        vq().latent_shape((3, 16, 16))
    with pytest.raises(ValueError, match=r"shrinks images 2 times .* multiples of 2, such as 8 x 8"):
        Encoder(3, 2, **SIZES)(torch.zeros(1, 3, 8, 7))
