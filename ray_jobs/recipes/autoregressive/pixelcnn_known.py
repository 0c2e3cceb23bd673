"""PixelCNN on small images of known probability: bits per pixel above the least possible."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, Variant, fit
from ray_jobs.recipe.measures import bits_above_truth


@fit(
    system="PixelCNN",
    data="lattice, 8x8 spins",
    headline=Headline("van den Oord et al. 2016", arxiv="1601.06759"),
    claim=Claim("excess_bits_per_dim", at_most=0.003),
    space={"lr": "loguniform(5e-4,1e-2)", "width": "choice(12,16,24)"},
    variants={
        "greys": Variant(
            "lattice, 8x4 pixels of 4 greys", Claim("excess_bits_per_dim", at_most=0.008), {"images": "greys"}
        ),
        "prototypes": Variant("prototypes, 8x8", Claim("excess_bits_per_dim", at_most=0.055), {"images": "prototypes"}),
    },
    steps=400,
    batch=64,
    lr=4e-3,
    ema=0.99,
    grad_clip=1.0,
)
def pixelcnn_known(
    *, batch: int, lr: float, images: str = "spins", width: int = 16, depth: int = 4, head: int = 32
) -> Fit:
    """PixelCNN on small images of known probability: bits per pixel above the least possible.

    A small PixelCNN on fresh images.

    Args:
        images: 'spins', 'greys' or 'prototypes'.
        width: h; residual layers have 2h features.
        depth: residual layers.
        head: features between the last two convolutions.
    """
    from datamodules.labs import lattice
    from lightning_modules.autoregressive.pixelcnn import PixelCNN

    known = lattice.images(images, batch=batch)
    model = PixelCNN(known.shape, depth=depth, width=width, head=head, levels=known.levels, lr=lr, warmup=50)
    return Fit(model, known, bits_above_truth)
