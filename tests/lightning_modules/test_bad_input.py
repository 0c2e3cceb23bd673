"""What a model cannot use is one sentence: what was wrong, and what it needs."""

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_modules.diffusion.models.ddpm import ddpm
from lightning_modules.flows.bijection import Chain
from lightning_modules.flows.elementwise import ActNorm
from lightning_modules.flows.flow import Flow
from lightning_modules.flows.glow import Glow
from lightning_modules.flows.linear import InvertibleLinear
from lightning_modules.flows.nice import NICE
from lightning_modules.flows.realnvp import RealNVP
from lightning_modules.gan.gan import GAN
from lightning_modules.model import NotFinite
from lightning_modules.nets.conditioned import MLP


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
