"""Glow on images of a known density: bits per pixel above the least possible."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe import Claim, Fit, Headline, Variant, fit
from ray_jobs.recipe.measures import bits_above_truth


@fit(
    system="Glow",
    data="gauss_image",
    headline=Headline("Kingma & Dhariwal 2018", arxiv="1807.03039"),
    claim=Claim("excess_bits_per_dim", at_most=0.012),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(16,32,64)"},
    variants={
        "textures": Variant(
            "textures", Claim("excess_bits_per_dim", at_most=0.23), {"images": "textures", "steps": 400}
        ),
        "peaked": Variant(
            "gauss_image, peaked", Claim("excess_bits_per_dim", at_most=0.14), {"images": "peaked", "steps": 400}
        ),
    },
    steps=800,
    batch=128,
    lr=2e-3,
    ema=0.998,
    grad_clip=10.0,
)
def glow_gauss_image(
    *,
    steps: int,
    batch: int,
    lr: float,
    images: str = "smooth",
    depth: int = 6,
    width: int = 24,
    scales: int = 2,
    size: int = 8,
) -> Fit:
    """Glow on images of a known density: bits per pixel above the least possible.

    Glow on random images, fresh at every step.

    Args:
        images: 'smooth', 'textures' or 'peaked'.
        depth: steps of the flow at each scale.
        width: channels inside the couplings' networks.
        scales: how often the image is halved.
        size: height and width of the images.
    """
    from datamodules.labs import textures
    from lightning_modules.flows.glow import Glow

    known = textures.images(images, size, batch=batch)
    model = Glow(known.shape, steps=depth, scales=scales, width=width, lr=lr, warmup=100)
    return Fit(model, known, partial(bits_above_truth, n=8192))
