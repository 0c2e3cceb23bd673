"""VAE with a learned autoregressive prior on MNIST in black and white, at the paper's scale."""

from __future__ import annotations

from ray_jobs.recipe.plan import Fit, Headline
from ray_jobs.recipes.vae.vae_mnist import evaluate

system = "VAE with flow prior"
data = "MNIST"
headline = Headline("Chen et al. 2017", arxiv="1611.02731")
claim = None
space = {"lr": "loguniform(3e-4,3e-3)", "latents": "choice(16,32,64)"}


def recipe(
    *,
    steps: int = 300_000,
    batch: int = 100,
    lr: float = 1e-3,
    latents: int = 64,
    width: int = 500,
    depth: int = 4,
    hidden: int = 640,
    free: float = 0.6,
    kl_rise: int = 10_000,
    ema: float = 0.999,
    data_dir: str = "",
    num_workers: int = 4,
) -> Fit:
    """Two hidden layers on either side and a chain of masked autoregressive flows as prior; digits from the Hugging Face hub.

    The paper's networks are convolutions, and its decoder is autoregressive, too.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 1,000 steps.
        latents: numbers that describe an image.
        width: units of each of two hidden layers, of encoder and decoder.
        depth: layers of the flow.
        hidden: units of the hidden layer of each of them.
        free: nats that the whole divergence costs at least.
        kl_rise: steps over which the divergence's weight rises to 1.
        ema: decay of the weights' average.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
        num_workers: processes that decode images ahead.
    """
    from torch import nn

    from datamodules.binary import Binary
    from datamodules.readers.images import Images
    from lightning_modules.nets.conditioned import Plain
    from lightning_modules.optim import Adam
    from lightning_modules.vae.flow_prior import FlowPriorVAE
    from lightning_modules.vae.likelihood import Bernoulli

    grey = Images(batch, name="ylecun/mnist", data_dir=data_dir, num_workers=num_workers)
    encoder = nn.Sequential(nn.Flatten(), Plain(784, 2 * latents, width=width))
    decoder = nn.Sequential(Plain(latents, 784, width=width), nn.Unflatten(1, (1, 28, 28)))
    model = FlowPriorVAE(
        encoder,
        decoder,
        Bernoulli(),
        (1, 28, 28),
        latents,
        depth=depth,
        hidden=(hidden,),
        free_bits=free,
        kl_annealing=kl_rise,
        optim=Adam(lr, warmup=1000),
    )
    return Fit(
        model, Binary(grey, by_chance=True), steps, evaluate, ema=ema, grad_clip=10.0, save_every=10_000, log_every=100
    )
