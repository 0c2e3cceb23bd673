"""VAE on handwritten digits, with a logistic for each pixel: half a minute on one core, no download."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe.plan import Claim, Fit, Headline

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.vae.vae import VAE

system = "VAE"
data = "digits"
headline = Headline("Kingma & Welling 2014", arxiv="1312.6114")
claim = Claim("bits_per_dim", at_most=1.92)
space = {"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,128,256)", "latents": "choice(8,16,32)"}


def recipe(
    *,
    steps: int = 2500,
    batch: int = 100,
    lr: float = 1e-3,
    latents: int = 16,
    width: int = 128,
    free: float = 0.0,
    kl_rise: int = 500,
    ema: float = 0.995,
) -> Fit:
    """VAE of two multilayer perceptrons on the 8x8 digits of scikit-learn.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 100 steps.
        latents: numbers that describe an image.
        width: units of each of two hidden layers, of encoder and decoder.
        free: nats that each latent's divergence costs at least.
        kl_rise: steps over which the divergence's weight rises to 1.
        ema: decay of the weights' average.
    """
    from torch import nn

    from datamodules.readers.digits import LEVELS, Digits
    from lightning_modules.nets.conditioned import Plain
    from lightning_modules.optim import Adam
    from lightning_modules.vae.likelihood import DiscretisedLogistic
    from lightning_modules.vae.vae import VAE

    shape, each = Digits.shape, DiscretisedLogistic(LEVELS, per_element=True)
    encoder = nn.Sequential(nn.Flatten(), Plain(64, 2 * latents, width=width))
    decoder = nn.Sequential(Plain(latents, 128, width=width), nn.Unflatten(1, (2, 8, 8)))
    model = VAE(
        encoder, decoder, each, shape, latents, free_bits=free, kl_annealing=kl_rise, optim=Adam(lr, warmup=100)
    )
    return Fit(model, Digits(batch), steps, evaluate, ema=ema, grad_clip=1.0)


def evaluate(model: VAE, data: Data) -> dict[str, float]:
    """Code length of held-out digits by the bound of 200 draws and by that of one, and of the training digits."""
    import torch

    rng = torch.Generator().manual_seed(0)
    x, seen = data.test()["x"].to(model.device), data.train["x"].to(model.device)

    def bits(of: torch.Tensor, k: int) -> float:
        return model.bits_per_dim(of, k=k, rng=rng).mean().item()

    one = sum(bits(x, 1) for _ in range(20)) / 20
    return {"bits_per_dim": bits(x, 200), "elbo_bits_per_dim": one, "train_bits_per_dim": bits(seen, 20)}
