"""VAE on MNIST in black and white, at the paper's scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Fit, Headline, Location, fit

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.vae.vae import VAE


@fit(
    system="VAE",
    data="MNIST",
    headline=Headline("Kingma & Welling 2014", arxiv="1312.6114"),
    space={"lr": "loguniform(3e-4,3e-3)", "latents": "choice(10,20,50)"},
    steps=300_000,
    batch=100,
    lr=1e-3,
    ema=0.999,
    num_workers=4,
    save_every=10_000,
    log_every=100,
)
def vae_mnist(
    *,
    batch: int,
    lr: float,
    num_workers: int,
    latents: int = 20,
    width: int = 500,
    depth: int = 1,
    kl_rise: int = 0,
    data_dir: Location = "",
) -> Fit:
    """VAE on MNIST in black and white, at the paper's scale.

    VAE of one hidden layer of 500 units on either side, a Bernoulli for each pixel; digits from the Hugging Face hub.

    Args:
        latents: numbers that describe an image.
        width: units of each hidden layer, of encoder and decoder.
        depth: hidden layers of each.
        kl_rise: steps over which the divergence's weight rises to 1.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
    """
    from torch import nn

    from datamodules.binary import Binary
    from datamodules.readers.images import Images
    from lightning_modules.nets.conditioned import MLP
    from lightning_modules.vae.likelihood import Bernoulli
    from lightning_modules.vae.vae import VAE

    grey = Images(batch=batch, name="ylecun/mnist", data_dir=data_dir, num_workers=num_workers)
    encoder = nn.Sequential(nn.Flatten(), MLP(784, 2 * latents, width=width, depth=depth))
    decoder = nn.Sequential(MLP(latents, 784, width=width, depth=depth), nn.Unflatten(1, (1, 28, 28)))
    model = VAE(encoder, decoder, Bernoulli(), (1, 28, 28), latents, kl_rise=kl_rise, lr=lr, warmup=1000)
    return Fit(model, Binary(grey, by_chance=True), evaluate)


def evaluate(model: VAE, data: Data) -> dict[str, float]:
    """Nats of a held-out image by the bound of 500 draws, and by that of one."""
    import torch

    x, rng = data.test(2000)["x"].to(model.device), torch.Generator().manual_seed(0)
    nats = {"log_prob": 500, "elbo": 1}
    return {name: model.log_prob(x, k=k, rng=rng).mean().item() for name, k in nats.items()}
