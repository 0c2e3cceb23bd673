"""VAE with a learned autoregressive prior on MNIST in black and white, at the paper's scale."""

from __future__ import annotations

from ray_jobs.recipe import Fit, Headline, Location, fit
from ray_jobs.recipes.vae.vae_mnist import evaluate


@fit(
    system="VAE with flow prior",
    data="MNIST",
    headline=Headline("Chen et al. 2017", arxiv="1611.02731"),
    space={"lr": "loguniform(3e-4,3e-3)", "latents": "choice(16,32,64)"},
    steps=300_000,
    batch=100,
    lr=1e-3,
    ema=0.999,
    num_workers=4,
    grad_clip=10.0,
    save_every=10_000,
    log_every=100,
)
def vlae_mnist(
    *,
    batch: int,
    lr: float,
    num_workers: int,
    latents: int = 64,
    width: int = 500,
    depth: int = 4,
    hidden: int = 640,
    free: float = 0.6,
    kl_rise: int = 10_000,
    data_dir: Location = "",
) -> Fit:
    """VAE with a learned autoregressive prior on MNIST in black and white, at the paper's scale.

    Two hidden layers on either side and a chain of masked autoregressive flows as prior; digits from the Hugging Face hub.
    The paper's networks are convolutions, and its decoder is autoregressive, too.

    Args:
        latents: numbers that describe an image.
        width: units of each of two hidden layers, of encoder and decoder.
        depth: layers of the flow.
        hidden: units of the hidden layer of each of them.
        free: nats that the whole divergence costs at least.
        kl_rise: steps over which the divergence's weight rises to 1.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
    """
    from torch import nn

    from datamodules.binary import Binary
    from datamodules.readers.images import Images
    from lightning_modules.nets.conditioned import MLP
    from lightning_modules.vae.flow_prior import FlowPriorVAE
    from lightning_modules.vae.likelihood import Bernoulli

    grey = Images(batch=batch, name="ylecun/mnist", data_dir=data_dir, num_workers=num_workers)
    encoder = nn.Sequential(nn.Flatten(), MLP(784, 2 * latents, width=width))
    decoder = nn.Sequential(MLP(latents, 784, width=width), nn.Unflatten(1, (1, 28, 28)))
    model = FlowPriorVAE(
        encoder,
        decoder,
        Bernoulli(),
        (1, 28, 28),
        latents,
        depth=depth,
        hidden=(hidden,),
        free=free,
        kl_rise=kl_rise,
        lr=lr,
        warmup=1000,
    )
    return Fit(model, Binary(grey, by_chance=True), evaluate)
