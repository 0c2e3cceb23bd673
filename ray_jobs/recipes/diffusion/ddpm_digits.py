"""DDPM on handwritten digits: a minute on two cores, no download."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, fit

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.diffusion.denoising import Denoising


@fit(
    system="DDPM",
    data="digits",
    headline=Headline("Ho et al. 2020", arxiv="2006.11239"),
    claim=Claim("bits_per_dim", at_most=2.75),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(16,24,32)"},
    steps=1200,
    batch=64,
    lr=2e-3,
    ema=0.995,
    grad_clip=1.0,
)
def ddpm_digits(
    *, batch: int, lr: float, width: int = 24, levels: int = 200, dropout: float = 0.0, bf16: bool = False
) -> Fit:
    """DDPM on handwritten digits: a minute on two cores, no download.

    DDPM with a small U-Net on the 8x8 digits of scikit-learn.

    Args:
        width: channels of the U-Net at full resolution; twice as many at half.
        levels: noise levels in training and sampling.
        dropout: in the residual blocks.
        bf16: whether the U-Net computes in bfloat16.
    """
    from datamodules.readers.digits import LEVELS, Digits
    from lightning_modules.diffusion import schedules
    from lightning_modules.diffusion.models.ddpm import ddpm
    from lightning_modules.nets.unet import UNet
    from lightning_modules.objectives import discretised_gaussian_log_prob
    from lightning_modules.optim import Adam

    net = UNet(1, width=width, multiples=(1, 2), blocks=1, attention=(1,), head=24, dropout=dropout, bf16=bf16)
    model = ddpm(
        net,
        Digits.shape,
        levels=schedules.linear(levels, 0.1 / levels, 20 / levels),
        optim=Adam(lr, warmup=100),
        decoder=partial(discretised_gaussian_log_prob, levels=LEVELS),
        clip=True,
        variance=schedules.forward,
    )
    return Fit(model, Digits(batch=batch), evaluate)


def evaluate(model: Denoising, data: Data) -> dict[str, float]:
    """The bound on held-out digits, and the Frechet distance of pixels to the training digits over that of real ones."""
    import torch

    from lightning_modules.metrics.gaussian import frechet_of, moments

    rng = torch.Generator().manual_seed(0)
    real = data.test()["x"].to(model.device)
    train = moments(data.train["x"])
    drawn = model.sample(3 * len(real), rng=rng, steps=min(50, len(model.bound.levels))).cpu().chunk(3)
    ratio = sum(frechet_of(x, train) for x in drawn) / 3 / frechet_of(real.cpu(), train)
    bits = model.bits_per_dim(real, terms=30, rng=rng).mean().item()
    return {"bits_per_dim": bits, "frechet_pixels": ratio}
