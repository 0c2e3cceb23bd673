"""An autoregressive posterior of correlated latents: the part of the exact gap of independent ones that it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, fit

if TYPE_CHECKING:
    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.vae.vae import VAE


@fit(
    system="VAE with IAF posterior",
    data="gauss_image",
    headline=Headline("Kingma et al. 2016", arxiv="1606.04934"),
    claim=Claim("gap_share", at_most=0.05),
    space={"lr": "loguniform(1e-3,3e-2)", "depth": "choice(1,2)"},
    steps=3000,
    batch=256,
    lr=1e-2,
    ema=0.998,
    grad_clip=10.0,
)
def iaf_vae_ppca(
    *, batch: int, lr: float, latents: int = 8, depth: int = 1, hidden: int = 64, context: int = 4, size: int = 8
) -> Fit:
    """An autoregressive posterior of correlated latents: the part of the exact gap of independent ones that it leaves.

    A linear decoder that is known and stays, the best for Gaussian images with its latents turned; the posterior is
    learned.

    Args:
        latents: numbers that describe an image.
        depth: steps of the flow.
        hidden: units of the hidden layer of each of them.
        context: numbers that the encoder tells them.
        size: height and width of the images.
    """
    import torch
    from torch import nn

    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.vae import linear
    from lightning_modules.vae.iaf_vae import IAFVAE
    from lightning_modules.vae.likelihood import Gaussian

    images = GaussImage(batch=batch, size=size)
    truth = linear.turned(linear.ppca(images.mean, images.cov, latents), torch.Generator().manual_seed(0))
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
        lr=lr,
        warmup=100,
    )
    return Fit(linear.known_decoder(model, truth), images, evaluate)


def evaluate(model: VAE, data: GaussImage) -> dict[str, float]:
    """Nats by which the bound misses the exact evidence, and their share of what independent latents must miss."""
    import torch

    from lightning_modules.vae.linear import read

    truth = read(model)
    x = data.test(32768)["x"].to(model.device)
    bound = model.log_prob(x, rng=torch.Generator().manual_seed(0)).double().cpu()
    lost, least = truth.log_prob(x.cpu()) - bound, truth.diagonal_gap()
    error = lost.std().item() / len(x) ** 0.5
    gap = lost.mean().item()
    return {"gap_share": gap / least, "gap_nats": gap, "standard_error": error, "diagonal_gap_nats": least}
