"""VAE with a learned autoregressive prior on vectors of a known density: by how much its bound misses the entropy."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, Variant, fit
from ray_jobs.recipe.measures import bound_above_entropy


@fit(
    system="VAE with flow prior",
    data="density2d, moons",
    headline=Headline("Chen et al. 2017", arxiv="1611.02731"),
    claim=Claim("excess_nats", at_most=0.2),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,128)"},
    variants={
        "wave": Variant("density2d, wave", Claim("excess_nats", at_most=0.15), {"density": "wave", "narrow": False}),
        "clayton": Variant(
            "tabular, Clayton in 8 dimensions",
            Claim("excess_nats", at_most=0.45),
            {"density": "clayton", "size": 8, "latents": 8},
        ),
    },
    steps=3000,
    batch=256,
    lr=2e-3,
    ema=0.998,
    grad_clip=1.0,
)
def flow_prior_vae_density2d(
    *,
    batch: int,
    lr: float,
    density: str = "moons",
    size: int = 2,
    latents: int = 2,
    width: int = 96,
    depth: int = 2,
    hidden: int = 64,
    kl_rise: int = 1000,
    free: float = 1.25,
    narrow: bool = True,
) -> Fit:
    """VAE with a learned autoregressive prior on vectors of a known density: by how much its bound misses the entropy.

    As vae_density2d, with a masked autoregressive flow as the latents' prior.

    Args:
        density: as in maf_density2d.
        size: dimensions.
        latents: numbers that describe an example.
        width: units of each of two hidden layers, of encoder and decoder.
        depth: layers of the flow.
        hidden: units of the hidden layer of each of them.
        kl_rise: steps over which the divergence's weight rises to 1.
        free: nats that the whole divergence costs at least, so that no latent is given up.
        narrow: begin with narrow posteriors and networks that tell examples apart: else two of three trainings failed on the banana. On the
            wave they end worse.
    """
    from datamodules.labs.vectors import vectors
    from lightning_modules.nets.conditioned import MLP
    from lightning_modules.vae.flow_prior import FlowPriorVAE
    from lightning_modules.vae.likelihood import Gaussian
    from lightning_modules.vae.vae import narrow_start

    points, each = vectors(density, size, batch=batch), Gaussian(0.2, each=True)
    encoder, decoder = MLP(size, 2 * latents, width=width), MLP(latents, 2 * size, width=width)
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
        kl_rise=kl_rise,
        free=free,
        lr=lr,
        warmup=100,
    )
    return Fit(model, points, bound_above_entropy)
