"""Glow on handwritten digits: bits per pixel, no download."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, fit
from ray_jobs.recipe.measures import bits_of_digits


@fit(
    system="Glow",
    data="digits",
    headline=Headline("Kingma & Dhariwal 2018", arxiv="1807.03039"),
    claim=Claim("bits_per_dim", at_most=2.6),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(16,32,64)"},
    steps=500,
    batch=64,
    lr=2e-3,
    ema=0.995,
    grad_clip=10.0,
)
def glow_digits(
    *, steps: int, batch: int, lr: float, depth: int = 4, width: int = 32, scales: int = 2, smear: int = 8
) -> Fit:
    """Glow on handwritten digits: bits per pixel, no download.

    Glow on the 8x8 digits of scikit-learn.

    Args:
        depth: steps of the flow at each scale.
        width: channels inside the couplings' networks.
        scales: how often the image is halved, 1 to 3.
        smear: channels of the networks that learn the noise of grey levels; 0: it is even.
    """
    from datamodules.readers.digits import LEVELS, Digits
    from lightning_modules.flows.glow import Glow

    model = Glow(Digits.shape, steps=depth, scales=scales, width=width, levels=LEVELS, smear=smear, lr=lr, warmup=100)
    return Fit(model, Digits(batch=batch), bits_of_digits)
