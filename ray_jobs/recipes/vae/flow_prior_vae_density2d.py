"""VAE with a learned autoregressive prior on vectors of a known density: by how much its bound misses the entropy."""

from __future__ import annotations

from ray_jobs.recipe.measures import bound_above_entropy
from ray_jobs.recipe.plan import Claim, Fit, Headline, Variant

system = "VAE with flow prior"
data = "density2d, moons"
headline = Headline("Chen et al. 2017", arxiv="1611.02731")
claim = Claim("excess_nats", at_most=0.2)
space = {"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,128)"}
variants = {
    "wave": Variant("density2d, wave", Claim("excess_nats", at_most=0.15), {"density": "wave", "narrow": False}),
    "clayton": Variant(
        "tabular, Clayton in 8 dimensions",
        Claim("excess_nats", at_most=0.45),
        {"density": "clayton", "size": 8, "latents": 8},
    ),
}


def recipe(
    *,
    density: str = "moons",
    size: int = 2,
    steps: int = 3000,
    batch: int = 256,
    lr: float = 2e-3,
    latents: int = 2,
    width: int = 96,
    depth: int = 2,
    hidden: int = 64,
    kl_rise: int = 1000,
    free: float = 1.25,
    narrow: bool = True,
    ema: float = 0.998,
) -> Fit:
    """As vae_density2d, with a masked autoregressive flow as the latents' prior.

    Args:
        density: as in maf_density2d.
        size: dimensions.
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 100 steps.
        latents: numbers that describe an example.
        width: units of each of two hidden layers, of encoder and decoder.
        depth: layers of the flow.
        hidden: units of the hidden layer of each of them.
        kl_rise: steps over which the divergence's weight rises to 1.
        free: nats that the whole divergence costs at least, so that no latent is given up.
        narrow: begin with narrow posteriors and networks that tell examples apart: else two of three trainings failed on the banana. On the
            wave they end worse.
        ema: decay of the weights' average.
    """
    from datamodules.labs.vectors import vectors
    from lightning_modules.nets.conditioned import Plain
    from lightning_modules.optim import Adam
    from lightning_modules.vae.flow_prior import FlowPriorVAE
    from lightning_modules.vae.likelihood import Gaussian
    from lightning_modules.vae.vae import narrow_start

    points, each = vectors(density, size, batch=batch), Gaussian(0.2, per_element=True)
    encoder, decoder = Plain(size, 2 * latents, width=width), Plain(latents, 2 * size, width=width)
    if narrow:
        narrow_start(encoder, decoder, latents)
    model = FlowPriorVAE(
        encoder,
        decoder,
        each,
        points.shape,
        latents,
        depth=depth,
        hidden=(hidden,),
        kl_annealing=kl_rise,
        free_bits=free,
        optim=Adam(lr, warmup=100),
    )
    return Fit(model, points, steps, bound_above_entropy, ema=ema, grad_clip=1.0)
