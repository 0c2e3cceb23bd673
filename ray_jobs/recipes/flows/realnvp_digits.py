"""RealNVP on handwritten digits: bits per pixel, no download."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, fit
from ray_jobs.recipe.measures import bits_of_digits


@fit(
    system="RealNVP",
    data="digits",
    headline=Headline("Dinh et al. 2017", arxiv="1605.08803"),
    claim=Claim("bits_per_dim", at_most=2.15),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(16,32,64)"},
    steps=300,
    batch=64,
    lr=1e-3,
    ema=0.995,
    grad_clip=10.0,
)
def realnvp_digits(*, batch: int, lr: float, depth: int = 1, width: int = 24, scales: int = 2, smear: int = 8) -> Fit:
    """RealNVP on handwritten digits: bits per pixel, no download.

    RealNVP on the 8x8 digits of scikit-learn.

    Args:
        depth: residual blocks in each coupling's network.
        width: channels at full resolution.
        scales: of the image, 1 to 4.
        smear: channels of the networks that learn the noise of grey levels; 0: it is even.
    """
    from datamodules.readers.digits import LEVELS, Digits
    from lightning_modules.flows.realnvp import RealNVP

    model = RealNVP(
        Digits.shape, depth=depth, scales=scales, width=width, levels=LEVELS, smear=smear, lr=lr, warmup=100
    )
    return Fit(model, Digits(batch=batch), bits_of_digits)
