"""VAE with a learned autoregressive prior on handwritten digits: a minute on one core, no download."""

from __future__ import annotations

from ray_jobs.recipe.plan import Claim, Fit, Headline
from ray_jobs.recipes.vae.vae_digits import evaluate

system = "VAE with flow prior"
data = "digits"
headline = Headline("Chen et al. 2017", arxiv="1611.02731")
claim = Claim("bits_per_dim", at_most=1.90)
space = {"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,128,256)", "depth": "choice(1,2,4)"}


def recipe(
    *,
    steps: int = 2500,
    batch: int = 100,
    lr: float = 1e-3,
    latents: int = 16,
    width: int = 128,
    depth: int = 2,
    hidden: int = 128,
    free: float = 0.0,
    kl_rise: int = 500,
    ema: float = 0.995,
) -> Fit:
    """As vae_digits, with a masked autoregressive flow as the latents' prior.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 100 steps.
        latents: numbers that describe an image.
        width: units of each of two hidden layers, of encoder and decoder.
        depth: layers of the flow.
        hidden: units of the hidden layer of each of them.
        free: nats that the whole divergence costs at least.
        kl_rise: steps over which the divergence's weight rises to 1.
        ema: decay of the weights' average.
    """
    from torch import nn

    from datamodules.readers.digits import LEVELS, Digits
    from lightning_modules.nets.conditioned import Plain
    from lightning_modules.optim import Adam
    from lightning_modules.vae.flow_prior import FlowPriorVAE
    from lightning_modules.vae.likelihood import DiscretisedLogistic

    encoder = nn.Sequential(nn.Flatten(), Plain(64, 2 * latents, width=width))
    decoder = nn.Sequential(Plain(latents, 128, width=width), nn.Unflatten(1, (2, 8, 8)))
    model = FlowPriorVAE(
        encoder,
        decoder,
        DiscretisedLogistic(LEVELS, per_element=True),
        Digits.shape,
        latents,
        depth=depth,
        hidden=(hidden,),
        free_bits=free,
        kl_annealing=kl_rise,
        optim=Adam(lr, warmup=100),
    )
    return Fit(model, Digits(batch), steps, evaluate, ema=ema, grad_clip=1.0)
