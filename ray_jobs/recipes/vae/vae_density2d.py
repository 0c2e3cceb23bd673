"""VAE on vectors of a known density: by how much its bound misses the entropy."""

from __future__ import annotations

from ray_jobs.recipe.measures import bound_above_entropy
from ray_jobs.recipe.plan import Claim, Fit, Headline, Variant

system = "VAE"
data = "density2d, ring"
headline = Headline("Kingma & Welling 2014", arxiv="1312.6114")
claim = Claim("excess_nats", at_most=0.45)
space = {"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,128)"}
variants = {
    "moons": Variant("density2d, moons", Claim("excess_nats", at_most=0.13), {"density": "moons"}),
    "wave": Variant("density2d, wave", Claim("excess_nats", at_most=0.45), {"density": "wave"}),
}


def recipe(
    *,
    density: str = "ring",
    size: int = 2,
    steps: int = 3000,
    batch: int = 256,
    lr: float = 2e-3,
    latents: int = 2,
    width: int = 96,
    kl_rise: int = 1000,
    free: float = 0.5,
    ema: float = 0.998,
) -> Fit:
    """VAE of two multilayer perceptrons, with a Gaussian for each number.

    Args:
        density: as in maf_density2d.
        size: dimensions.
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 100 steps.
        latents: numbers that describe an example.
        width: units of each of two hidden layers, of encoder and decoder.
        kl_rise: steps over which the divergence's weight rises to 1.
        free: nats that each latent's divergence costs at least, so that none is given up.
        ema: decay of the weights' average.
    """
    from datamodules.labs.vectors import vectors
    from lightning_modules.nets.conditioned import Plain
    from lightning_modules.optim import Adam
    from lightning_modules.vae.likelihood import Gaussian
    from lightning_modules.vae.vae import VAE

    points, each = vectors(density, size, batch=batch), Gaussian(0.2, per_element=True)
    encoder, decoder = Plain(size, 2 * latents, width=width), Plain(latents, 2 * size, width=width)
    model = VAE(
        encoder, decoder, each, points.shape, latents, kl_annealing=kl_rise, free_bits=free, optim=Adam(lr, warmup=100)
    )
    return Fit(model, points, steps, bound_above_entropy, ema=ema, grad_clip=1.0)
