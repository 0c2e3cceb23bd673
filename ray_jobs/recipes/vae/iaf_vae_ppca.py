"""An autoregressive posterior of correlated latents: the part of the exact gap of independent ones that it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe.plan import Claim, Fit, Headline

if TYPE_CHECKING:
    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.vae.vae import VAE

system = "VAE with IAF posterior"
data = "gauss_image"
headline = Headline("Kingma et al. 2016", arxiv="1606.04934")
claim = Claim("gap_share", at_most=0.05)
space = {"lr": "loguniform(1e-3,3e-2)", "depth": "choice(1,2)"}


def recipe(
    *,
    steps: int = 3000,
    batch: int = 256,
    lr: float = 1e-2,
    latents: int = 8,
    depth: int = 1,
    hidden: int = 64,
    context: int = 4,
    size: int = 8,
    ema: float = 0.998,
) -> Fit:
    """A linear decoder that is known and stays, the best for Gaussian images with its latents turned; the posterior is learned.

    Args:
        steps: optimiser steps.
        batch: global batch, over all workers.
        lr: learning rate of Adam, after a warm-up of 100 steps.
        latents: numbers that describe an image.
        depth: steps of the flow.
        hidden: units of the hidden layer of each of them.
        context: numbers that the encoder tells them.
        size: height and width of the images.
        ema: decay of the weights' average.
    """
    import torch
    from torch import nn

    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.optim import Adam
    from lightning_modules.vae import linear
    from lightning_modules.vae.iaf_vae import IAFVAE
    from lightning_modules.vae.likelihood import Gaussian

    images = GaussImage(batch, size=size)
    truth = linear.rotated(linear.ppca(images.mean, images.cov, latents), torch.Generator().manual_seed(0))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(size**2, 2 * latents + context))
    decoder = nn.Sequential(nn.Linear(latents, size**2), nn.Unflatten(1, images.shape))
    model = IAFVAE(
        encoder,
        decoder,
        Gaussian(),
        images.shape,
        latents,
        context=context,
        depth=depth,
        hidden=(hidden,),
        optim=Adam(lr, warmup=100),
    )
    return Fit(linear.fix_decoder(model, truth), images, steps, evaluate, ema=ema, grad_clip=10.0)


def evaluate(model: VAE, data: GaussImage) -> dict[str, float]:
    """Nats by which the bound misses the exact evidence, and their share of what independent latents must miss."""
    import torch

    from lightning_modules.vae.linear import as_linear_gaussian

    truth = as_linear_gaussian(model)
    x = data.test(32768)["x"].to(model.device)
    bound = model.log_prob(x, rng=torch.Generator().manual_seed(0)).double().cpu()
    lost, least = truth.log_prob(x.cpu()) - bound, truth.diagonal_gap()
    error = lost.std().item() / len(x) ** 0.5
    gap = lost.mean().item()
    return {"gap_share": gap / least, "gap_nats": gap, "standard_error": error, "diagonal_gap_nats": least}
