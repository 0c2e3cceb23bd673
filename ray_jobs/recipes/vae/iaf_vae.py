"""VAE with an autoregressive posterior on known densities, digits and CIFAR-10, and on a posterior that is known."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, Location, Variant, fit
from ray_jobs.recipe.measures import measuring
from ray_jobs.recipes.vae.builders import on_digits, on_vectors

if TYPE_CHECKING:
    from datamodules.base import Data
    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.vae.resnet_vae import ResNetVAE
    from lightning_modules.vae.vae import VAE

PAPER = Headline("Kingma et al. 2016", arxiv="1606.04934")


@fit(
    system="VAE with IAF posterior", data="density2d, ring", headline=PAPER, claim=Claim("excess_nats", at_most=0.35),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,128)"},
    variants={
        "moons": Variant("density2d, moons", Claim("excess_nats", at_most=0.2), {"density": "moons"}),
        "wave": Variant("density2d, wave", Claim("excess_nats", at_most=0.35), {"density": "wave", "narrow": False}),
    },
    steps=3000, batch=256, lr=2e-3, warmup=100, ema=0.998, grad_clip=1.0,
)  # fmt: skip
def iaf_vae_density2d(
    *, density: str = "ring", size: int = 2, latents: int = 2, width: int = 96, depth: int = 2, hidden: int = 64,
    context: int = 16, kl_annealing: int = 1000, free_bits: float = 0.5, narrow: bool = True
) -> Fit:  # fmt: skip
    """VAE with an autoregressive posterior on vectors of a known density: by how much its bound misses the entropy.

    As vae_density2d, with steps of inverse autoregressive flow behind the encoder.

    Args:
        density: as in maf_density2d.
        size: dimensions.
        latents: of an example.
        width: units of each of two hidden layers, of encoder and decoder.
        depth: steps of the flow.
        hidden: units of the hidden layer of each of them.
        context: features that the encoder outputs for them.
        kl_annealing: steps over which the divergence's weight rises to 1.
        free_bits: nats that each latent's divergence costs at least, so that none stays unused.
        narrow: start with narrow posteriors that differ between examples; the ring's latents stay in use, but the wave ends worse.
    """
    from lightning_modules.vae.iaf_vae import IAFVAE

    make = partial(
        IAFVAE, context=context, depth=depth, hidden=(hidden,), kl_annealing=kl_annealing, free_bits=free_bits
    )
    return on_vectors(make, density, size, latents, width, context=context, narrow=narrow)


@fit(
    system="VAE with IAF posterior", data="digits, writers shared by both parts", headline=PAPER, claim=Claim("bits_per_dim", at_most=1.95),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,128,256)", "depth": "choice(1,2,4)"}, steps=2500,
    batch=100, lr=1e-3, warmup=100, ema=0.995, grad_clip=1.0,
)  # fmt: skip
def iaf_vae_digits(
    *, latents: int = 16, width: int = 128, depth: int = 2, hidden: int = 128, context: int = 32,
    free_bits: float = 0.0, kl_annealing: int = 500
) -> Fit:  # fmt: skip
    """VAE with an autoregressive posterior on handwritten digits: a minute on one core, no download.

    As vae_digits, with steps of inverse autoregressive flow behind the encoder. On so few digits it is no better than
    vae_digits; iaf_vae_ppca shows the gain where the latents must depend on each other.

    Args:
        latents: of an image.
        width: units of each of two hidden layers, of encoder and decoder.
        depth: steps of the flow.
        hidden: units of the hidden layer of each of them.
        context: features that the encoder outputs for them.
        free_bits: nats that each latent's divergence costs at least.
        kl_annealing: steps over which the divergence's weight rises to 1.
    """
    from lightning_modules.vae.iaf_vae import IAFVAE

    make = partial(
        IAFVAE, context=context, depth=depth, hidden=(hidden,), free_bits=free_bits, kl_annealing=kl_annealing
    )
    return on_digits(make, latents, width, context=context)


@fit(
    system="VAE with IAF posterior", data="gauss_image", headline=PAPER, claim=Claim("gap_share", at_most=0.05),
    space={"lr": "loguniform(1e-3,3e-2)", "depth": "choice(1,2)"}, steps=3000, batch=256, lr=1e-2, warmup=100,
    ema=0.998, grad_clip=10.0,
)  # fmt: skip
def iaf_vae_ppca(*, latents: int = 8, depth: int = 1, hidden: int = 64, context: int = 4, size: int = 8) -> Fit:
    """An autoregressive posterior of correlated latents: the part of the exact gap of independent ones that it leaves.

    The linear decoder is fixed, the best for Gaussian images, with its latents rotated; the posterior is learned.

    Args:
        latents: of an image.
        depth: steps of the flow.
        hidden: units of the hidden layer of each of them.
        context: features that the encoder outputs for them.
        size: height and width of the images.
    """
    import torch
    from torch import nn

    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.vae import linear
    from lightning_modules.vae.iaf_vae import IAFVAE
    from lightning_modules.vae.likelihood import Gaussian

    images = GaussImage(size=size)
    truth = linear.rotated(linear.ppca(images.mean, images.cov, latents), torch.Generator().manual_seed(0))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(size**2, 2 * latents + context))
    decoder = nn.Sequential(nn.Linear(latents, size**2), nn.Unflatten(1, images.shape))
    likelihood, hiddens = Gaussian(), (hidden,)
    model = IAFVAE(encoder, decoder, likelihood, images.shape, latents, context=context, depth=depth, hidden=hiddens)
    return Fit(linear.fix_decoder(model, truth), images, gap_to_evidence)


def gap_to_evidence(model: VAE, data: GaussImage) -> dict[str, float]:
    """Nats by which the bound misses the exact evidence, and their share of the gap of the best independent latents."""

    from lightning_modules.vae.linear import as_linear_gaussian

    truth = as_linear_gaussian(model)
    x = data.test(32768)["x"].to(model.device)
    bound = model.log_prob(x, rng=measuring()).double().cpu()
    lost, least = truth.log_prob(x.cpu()) - bound, truth.diagonal_gap()
    error = lost.std().item() / len(x) ** 0.5
    gap = lost.mean().item()
    return {"gap_share": gap / least, "gap_nats": gap, "standard_error": error, "diagonal_gap_nats": least}


@fit(
    system="VAE with IAF posterior", data="CIFAR-10",
    headline=Headline("Kingma et al. 2016", arxiv="1606.04934", metric="bits_per_dim", value=3.11),
    space={"lr": "loguniform(3e-4,3e-3)", "free_bits": "loguniform(0.05,1)"}, steps=600_000, batch=128, lr=2e-3,
    warmup=5000, ema=0.999, num_workers=4, grad_clip=10.0, save_every=5000, log_every=100,
)  # fmt: skip
def iaf_vae_cifar10(
    *, scales: int = 2, blocks: int = 10, width: int = 160, size: int = 32, free_bits: float = 0.25,
    data_dir: Location = ""
) -> Fit:  # fmt: skip
    """ResNet VAE with autoregressive posteriors on CIFAR-10 at the paper's scale; needs GPUs.

    Twenty layers of latents at two scales, on images from the Hugging Face hub.

    Args:
        scales: of latents: the first at half of the image's width, each other at half the one before.
        blocks: layers of latents at each scale.
        width: channels.
        size: feature maps of latents in each layer.
        free_bits: nats that the divergence of each feature map costs at least.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
    """
    from datamodules.readers.images import Images
    from lightning_modules.vae.resnet_vae import ResNetVAE

    images = Images(name="uoft-cs/cifar10", data_dir=data_dir)
    model = ResNetVAE(images.shape, scales=scales, blocks=blocks, width=width, size=size, free_bits=free_bits)
    return Fit(model, images, bits_of_images)


def bits_of_images(model: ResNetVAE, data: Data) -> dict[str, float]:
    """Code length of 1,024 held-out images by the bound of 100 draws, and by the ELBO."""
    import torch

    parts, rng = data.test(1024)["x"].to(model.device).split(128), torch.Generator().manual_seed(0)
    draws = {"bits_per_dim": 100, "elbo_bits_per_dim": 1}
    return {n: torch.cat([model.bits_per_dim(x, k=k, rng=rng) for x in parts]).mean().item() for n, k in draws.items()}
