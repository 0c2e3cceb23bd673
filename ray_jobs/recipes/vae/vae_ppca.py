"""Linear VAE on a known Gaussian: its bound against the exact evidence of probabilistic PCA."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe.plan import Claim, Fit, Headline

if TYPE_CHECKING:
    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.vae.vae import VAE

system = "VAE"
data = "gauss_image"
headline = Headline("Kingma & Welling 2014", arxiv="1312.6114")
claim = Claim("gap_nats", at_most=0.025)
space = {"lr": "loguniform(1e-3,3e-2)"}


def recipe(
    *, steps: int = 3000, batch: int = 512, lr: float = 1e-2, latents: int = 8, size: int = 8, ema: float = 0.998
) -> Fit:
    """VAE with linear encoder and decoder on Gaussian images, whose best evidence with so many latents is known.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 100 steps.
        latents: numbers that describe an image.
        size: height and width of the images.
        ema: decay of the weights' average.
    """
    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.optim import Adam
    from lightning_modules.vae.linear import linear_vae

    laboratory = GaussImage(batch, size=size)
    return Fit(linear_vae(laboratory.shape, latents, optim=Adam(lr, warmup=100)), laboratory, steps, evaluate, ema=ema)


def evaluate(model: VAE, data: GaussImage) -> dict[str, float]:
    """Nats of an image by which the bound misses the evidence of probabilistic PCA, in all and of these the posterior's."""
    import torch

    from lightning_modules.vae.linear import as_linear_gaussian, ppca

    x = data.test(32768)["x"].to(model.device)
    bound = model.log_prob(x, rng=torch.Generator().manual_seed(0)).double().cpu()
    best, own = ppca(data.mean, data.cov, model.latents).log_prob(x.cpu()), as_linear_gaussian(model).log_prob(x.cpu())
    lost = best - bound
    error = lost.std().item() / len(x) ** 0.5
    return {"gap_nats": lost.mean().item(), "standard_error": error, "posterior_gap_nats": (own - bound).mean().item()}
