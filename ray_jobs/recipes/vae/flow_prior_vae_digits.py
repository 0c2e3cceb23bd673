"""VAE with a learned autoregressive prior on handwritten digits: a minute on one core, no download."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, fit
from ray_jobs.recipes.vae.vae_digits import evaluate


@fit(
    system="VAE with flow prior",
    data="digits",
    headline=Headline("Chen et al. 2017", arxiv="1611.02731"),
    claim=Claim("bits_per_dim", at_most=1.90),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,128,256)", "depth": "choice(1,2,4)"},
    steps=2500,
    batch=100,
    lr=1e-3,
    ema=0.995,
    grad_clip=1.0,
)
def flow_prior_vae_digits(
    *,
    batch: int,
    lr: float,
    latents: int = 16,
    width: int = 128,
    depth: int = 2,
    hidden: int = 128,
    free: float = 0.0,
    kl_rise: int = 500,
) -> Fit:
    """VAE with a learned autoregressive prior on handwritten digits: a minute on one core, no download.

    As vae_digits, with a masked autoregressive flow as the latents' prior.

    Args:
        latents: numbers that describe an image.
        width: units of each of two hidden layers, of encoder and decoder.
        depth: layers of the flow.
        hidden: units of the hidden layer of each of them.
        free: nats that the whole divergence costs at least.
        kl_rise: steps over which the divergence's weight rises to 1.
    """
    from torch import nn

    from datamodules.readers.digits import LEVELS, Digits
    from lightning_modules.nets.conditioned import MLP
    from lightning_modules.vae.flow_prior import FlowPriorVAE
    from lightning_modules.vae.likelihood import DiscretisedLogistic

    encoder = nn.Sequential(nn.Flatten(), MLP(64, 2 * latents, width=width))
    decoder = nn.Sequential(MLP(latents, 128, width=width), nn.Unflatten(1, (2, 8, 8)))
    model = FlowPriorVAE(
        encoder,
        decoder,
        DiscretisedLogistic(LEVELS, each=True),
        Digits.shape,
        latents,
        depth=depth,
        hidden=(hidden,),
        free=free,
        kl_rise=kl_rise,
        lr=lr,
        warmup=100,
    )
    return Fit(model, Digits(batch=batch), evaluate)
