"""VAE with an autoregressive posterior on vectors of a known density: by how much its bound misses the entropy."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, Variant, fit
from ray_jobs.recipe.measures import bound_above_entropy


@fit(
    system="VAE with IAF posterior",
    data="density2d, ring",
    headline=Headline("Kingma et al. 2016", arxiv="1606.04934"),
    claim=Claim("excess_nats", at_most=0.35),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,128)"},
    variants={
        "moons": Variant("density2d, moons", Claim("excess_nats", at_most=0.2), {"density": "moons"}),
        "wave": Variant("density2d, wave", Claim("excess_nats", at_most=0.2), {"density": "wave", "narrow": False}),
    },
    steps=3000,
    batch=256,
    lr=2e-3,
    ema=0.998,
    grad_clip=1.0,
)
def iaf_vae_density2d(
    *,
    batch: int,
    lr: float,
    density: str = "ring",
    size: int = 2,
    latents: int = 2,
    width: int = 96,
    depth: int = 2,
    hidden: int = 64,
    context: int = 16,
    kl_rise: int = 1000,
    free: float = 0.5,
    narrow: bool = True,
) -> Fit:
    """VAE with an autoregressive posterior on vectors of a known density: by how much its bound misses the entropy.

    As vae_density2d, with steps of inverse autoregressive flow behind the encoder.

    Args:
        density: as in maf_density2d.
        size: dimensions.
        latents: numbers that describe an example.
        width: units of each of two hidden layers, of encoder and decoder.
        depth: steps of the flow.
        hidden: units of the hidden layer of each of them.
        context: numbers that the encoder tells them.
        kl_rise: steps over which the divergence's weight rises to 1.
        free: nats that each latent's divergence costs at least, so that none is given up.
        narrow: begin with narrow posteriors and networks that tell examples apart: keeps the ring's latents, and is worse on the wave.
    """
    from datamodules.labs.vectors import vectors
    from lightning_modules.nets.conditioned import MLP
    from lightning_modules.vae.iaf_vae import IAFVAE
    from lightning_modules.vae.likelihood import Gaussian
    from lightning_modules.vae.vae import narrow_start

    points, each = vectors(density, size, batch=batch), Gaussian(0.2, each=True)
    encoder, decoder = MLP(size, 2 * latents + context, width=width), MLP(latents, 2 * size, width=width)
    if narrow:
        narrow_start(encoder, decoder, latents)
    model = IAFVAE(
        encoder,
        decoder,
        each,
        points.shape,
        latents,
        context=context,
        depth=depth,
        hidden=(hidden,),
        kl_rise=kl_rise,
        free=free,
        lr=lr,
        warmup=100,
    )
    return Fit(model, points, bound_above_entropy)
