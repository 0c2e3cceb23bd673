"""VAE on vectors of a known density: by how much its bound misses the entropy."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, Variant, fit
from ray_jobs.recipe.measures import bound_above_entropy


@fit(
    system="VAE",
    data="density2d, ring",
    headline=Headline("Kingma & Welling 2014", arxiv="1312.6114"),
    claim=Claim("excess_nats", at_most=0.45),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,128)"},
    variants={
        "moons": Variant("density2d, moons", Claim("excess_nats", at_most=0.13), {"density": "moons"}),
        "wave": Variant("density2d, wave", Claim("excess_nats", at_most=0.45), {"density": "wave"}),
    },
    steps=3000,
    batch=256,
    lr=2e-3,
    ema=0.998,
    grad_clip=1.0,
)
def vae_density2d(
    *,
    batch: int,
    lr: float,
    density: str = "ring",
    size: int = 2,
    latents: int = 2,
    width: int = 96,
    kl_rise: int = 1000,
    free: float = 0.5,
) -> Fit:
    """VAE on vectors of a known density: by how much its bound misses the entropy.

    VAE of two multilayer perceptrons, with a Gaussian for each number.

    Args:
        density: as in maf_density2d.
        size: dimensions.
        latents: numbers that describe an example.
        width: units of each of two hidden layers, of encoder and decoder.
        kl_rise: steps over which the divergence's weight rises to 1.
        free: nats that each latent's divergence costs at least, so that none is given up.
    """
    from datamodules.labs.vectors import vectors
    from lightning_modules.nets.conditioned import MLP
    from lightning_modules.vae.likelihood import Gaussian
    from lightning_modules.vae.vae import VAE

    points, each = vectors(density, size, batch=batch), Gaussian(0.2, each=True)
    encoder, decoder = MLP(size, 2 * latents, width=width), MLP(latents, 2 * size, width=width)
    model = VAE(encoder, decoder, each, points.shape, latents, kl_rise=kl_rise, free=free, lr=lr, warmup=100)
    return Fit(model, points, bound_above_entropy)
