"""What a model cannot use is one sentence: what was wrong, and what it needs."""

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_modules.autoregressive.made import MADE
from lightning_modules.autoregressive.pixelcnn import PixelCNN
from lightning_modules.autoregressive.wavenet import WaveNet
from lightning_modules.diffusion.models.ddpm import ddpm
from lightning_modules.flows.bijection import Chain
from lightning_modules.flows.elementwise import ActNorm
from lightning_modules.flows.flow import Flow
from lightning_modules.flows.glow import Glow
from lightning_modules.flows.linear import InvertibleLinear
from lightning_modules.flows.maf import MAF
from lightning_modules.flows.nice import NICE
from lightning_modules.flows.nsf import NSF
from lightning_modules.flows.realnvp import RealNVP
from lightning_modules.gan.gan import GAN
from lightning_modules.model import NotFinite
from lightning_modules.nets.conditioned import MLP
from lightning_modules.nets.unet import UNet
from lightning_modules.vae.likelihood import Bernoulli, DiscretisedLogistic, Gaussian
from lightning_modules.vae.resnet_vae import ResNetVAE
from lightning_modules.vae.vae import VAE


def glow():
    return Glow((3, 8, 8), steps=1, scales=1, width=4, levels=256)


def trained(model, batches):
    trainer = L.Trainer(
        max_steps=len(batches), accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(model, DataLoader([{"x": x} for x in batches], batch_size=None))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 3, 16, 16), r"Glow takes examples of shape \(3, 8, 8\), not \(3, 16, 16\)"),
        (torch.zeros(2, 1, 8, 8), r"Glow takes examples of shape \(3, 8, 8\), not \(1, 8, 8\)"),
        (torch.full((2, 3, 8, 8), 7.0), r"grey levels in \[-1, 1\], and was given 7 to 7"),
        (torch.full((2, 3, 8, 8), float("nan")), "NaN or infinite"),
        (torch.full((2, 3, 8, 8), float("-inf")), "NaN or infinite"),
    ],
)
def test_images_that_a_flow_cannot_use(x, message, seeded):
    for use in (lambda: glow().log_prob(x), lambda: trained(glow(), [x])):
        with pytest.raises(ValueError, match=message):
            use()


def test_diffusion_and_gans_name_the_shape_that_they_take(seeded):
    diffusion = ddpm(nn.Identity(), (2,), levels=torch.linspace(0.1, 1, 5))
    with pytest.raises(ValueError, match=r"Denoising takes examples of shape \(2,\), not \(3,\)"):
        diffusion.losses({"x": torch.zeros(4, 3)})
    model = GAN(MLP(5, 2, width=4), MLP(3, 1, width=4), latents=5)
    with pytest.raises(ValueError, match=r"GAN generates examples of shape \(2,\), and was given \(3,\)"):
        trained(model, [torch.zeros(4, 3)])


def test_a_constant_number_is_named_before_actnorm_divides_by_it(seeded):
    x = torch.randn(16, 3)
    x[:, 1] = 0.25
    with pytest.raises(ValueError, match=r"Number 1 of an example is 0.25 in the whole first batch"):
        trained(Flow(ActNorm((3,)), (3,)), [x])
    Flow(ActNorm((3,)), (3,)).fit_norms({"x": x[:1]})  # of one example nothing can be said


def test_a_matrix_that_became_singular_is_named(seeded):
    model = Flow(Chain([InvertibleLinear(3)]), (3,))
    nn.init.ones_(model.bijection.get_submodule("parts.0").weight)
    with pytest.raises(NotFinite, match=r"the matrix parts.0 became singular"):
        trained(model, [torch.randn(4, 3)])
    with pytest.raises(RuntimeError, match="singular"):
        model.sample(2)


@pytest.mark.parametrize("make", [RealNVP, NICE])
def test_one_number_cannot_be_split(make):
    with pytest.raises(ValueError, match="takes two at least"):
        make((1,))


def coder(kind, likelihood):
    return kind(
        nn.Sequential(nn.Flatten(), MLP(16, 4, width=4)),
        nn.Sequential(MLP(2, 16, width=4), nn.Unflatten(1, (1, 4, 4))),
        likelihood,
        (1, 4, 4),
        2,
    )


GREY = {
    "vae of levels": lambda: coder(VAE, DiscretisedLogistic(256)),
    "vae of bits": lambda: coder(VAE, Bernoulli()),
    "resnet vae": lambda: ResNetVAE((1, 4, 4), scales=1, blocks=1, width=2, size=1),
    "ddpm": lambda: ddpm(UNet(1, width=4, multiples=(1,), blocks=1), (1, 4, 4), levels=LEVELS, clip=True),
    "glow": lambda: Glow((1, 4, 4), steps=1, scales=1, width=4, levels=256),
    "pixelcnn": lambda: PixelCNN((1, 4, 4), depth=1, width=2, head=2),
    "made": lambda: MADE((1, 4, 4), hidden=(4,)),
}
LEVELS = torch.logspace(-2, 1, 6)


@pytest.mark.parametrize("kind", GREY)
def test_bytes_are_no_grey_levels(kind, seeded):
    model, x = GREY[kind](), torch.arange(16.0).reshape(1, 1, 4, 4) * 17
    for use in (model.log_prob, lambda x: model.losses({"x": x})):
        with pytest.raises(ValueError, match=r"\[-1, 1\], and was given 0 to 255|from -1 to 1, and was given others"):
            use(x)


@pytest.mark.parametrize("kind", GREY)
def test_images_of_another_shape_have_no_density(kind, seeded):
    model, x = GREY[kind](), -torch.ones(2, 1, 8, 8)
    for use in (model.log_prob, lambda x: model.losses({"x": x})):
        with pytest.raises(ValueError, match=r"takes examples of shape \(1, 4, 4\), not \(1, 8, 8\)"):
            use(x)


def test_real_numbers_may_be_of_any_size(seeded):
    x = torch.full((2, 1, 4, 4), 200.0)
    assert coder(VAE, Gaussian()).log_prob(x).isfinite().all()
    assert ddpm(UNet(1, width=4, multiples=(1,), blocks=1), (1, 4, 4), levels=LEVELS).log_prob(x).isfinite().all()


CONDITIONED = {
    "maf": lambda classes: MAF((3,), depth=1, hidden=(4,), classes=classes),
    "glow": lambda classes: Glow((1, 2, 2), steps=1, scales=1, width=4, classes=classes),
    "nice": lambda classes: NICE((3,), width=4, classes=classes),
    "made": lambda classes: MADE((3,), hidden=(4,), classes=classes),
    "wavenet": lambda classes: WaveNet(3, levels=4, layers=1, stacks=1, residual=2, skip=2, classes=classes),
}


@pytest.mark.parametrize("kind", CONDITIONED)
def test_a_conditioned_model_needs_labels_and_draws_its_classes_in_turn(kind, seeded):
    model = CONDITIONED[kind](2)
    for p in model.parameters():
        nn.init.normal_(p)
    x = model.sample(4, rng=torch.Generator().manual_seed(0)).clone()
    in_turn = model.sample(4, torch.tensor([0, 1, 0, 1]), rng=torch.Generator().manual_seed(0))
    torch.testing.assert_close(x, in_turn)
    for use in (lambda: model.log_prob(x), lambda: model.losses({"x": x})):
        with pytest.raises(ValueError, match="built with 2 classes: give the labels"):
            use()
    for use in (lambda label: model.log_prob(x, label), lambda label: model.sample(4, label)):
        with pytest.raises(ValueError, match=r"Labels must be in 0\.\.1, not 0\.\.2"):
            use(torch.tensor([0, 1, 2, 0]))


@pytest.mark.parametrize("kind", [*CONDITIONED, "vae"])
def test_a_model_without_classes_takes_no_labels(kind, seeded):
    model = CONDITIONED[kind](0) if kind in CONDITIONED else coder(VAE, Gaussian())
    x, label = model.sample(2).clone(), torch.tensor([0, 1])
    assert "loss" not in model.losses({"x": x, "label": label})  # the labels of a data set are left alone
    for use in (lambda: model.log_prob(x, label), lambda: model.sample(2, label)):
        with pytest.raises(ValueError, match="trained without labels"):
            use()


@pytest.mark.parametrize("bins", [-1, 0, 1, 1000])
@pytest.mark.parametrize("autoregressive", [False, True])
def test_a_spline_needs_two_bins(bins, autoregressive):
    with pytest.raises(ValueError, match=f"A spline has {bins} bins; it must have 2 to 999"):
        NSF((2,), bins=bins, autoregressive=autoregressive)


def test_an_empty_batch_has_no_loss(seeded):
    with pytest.raises(ValueError, match="MAF was given an empty batch"):
        trained(MAF((3,), depth=1, hidden=(4,)), [torch.zeros(0, 3)])
