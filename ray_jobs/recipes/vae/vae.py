"""VAE on known densities, digits and MNIST, and a linear one against probabilistic PCA."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, Location, Variant, fit
from ray_jobs.recipe.measures import measuring
from ray_jobs.recipes.vae.builders import on_digits, on_mnist, on_vectors

if TYPE_CHECKING:
    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.vae.vae import VAE

PAPER = Headline("Kingma & Welling 2014", arxiv="1312.6114")


@fit(
    system="VAE", data="density2d, ring", headline=PAPER, claim=Claim("excess_nats", at_most=0.45),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,128)"},
    variants={
        "moons": Variant("density2d, moons", Claim("excess_nats", at_most=0.18), {"density": "moons"}),
        "wave": Variant("density2d, wave", Claim("excess_nats", at_most=0.5), {"density": "wave"}),
    },
    steps=3000, batch=256, lr=2e-3, warmup=100, ema=0.998, grad_clip=1.0,
)  # fmt: skip
def vae_density2d(
    *, density: str = "ring", size: int = 2, latents: int = 2, width: int = 96, kl_annealing: int = 1000,
    free_bits: float = 0.5
) -> Fit:  # fmt: skip
    """VAE on vectors of a known density: by how much its bound misses the entropy.

    Args:
        density: as in maf_density2d.
        size: dimensions.
        latents: of an example.
        width: units of each of two hidden layers, of encoder and decoder.
        kl_annealing: steps over which the divergence's weight rises to 1.
        free_bits: nats that each latent's divergence costs at least, so that none stays unused.
    """
    from lightning_modules.vae.vae import VAE

    make = partial(VAE, kl_annealing=kl_annealing, free_bits=free_bits)
    return on_vectors(make, density, size, latents, width)


@fit(
    system="VAE", data="digits, writers shared by both parts", headline=PAPER, claim=Claim("bits_per_dim", at_most=1.92),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,128,256)", "latents": "choice(8,16,32)"}, steps=2500,
    batch=100, lr=1e-3, warmup=100, ema=0.995, grad_clip=1.0,
)  # fmt: skip
def vae_digits(*, latents: int = 16, width: int = 128, free_bits: float = 0.0, kl_annealing: int = 500) -> Fit:
    """VAE on handwritten digits, with a logistic for each pixel: half a minute on one core, no download.

    Args:
        latents: of an image.
        width: units of each of two hidden layers, of encoder and decoder.
        free_bits: nats that each latent's divergence costs at least.
        kl_annealing: steps over which the divergence's weight rises to 1.
    """
    from lightning_modules.vae.vae import VAE

    return on_digits(partial(VAE, free_bits=free_bits, kl_annealing=kl_annealing), latents, width)


@fit(
    system="VAE", data="MNIST", headline=PAPER, space={"lr": "loguniform(3e-4,3e-3)", "latents": "choice(10,20,50)"},
    steps=300_000, batch=100, lr=1e-3, warmup=1000, ema=0.999, num_workers=4, save_every=10_000, log_every=100,
)  # fmt: skip
def vae_mnist(
    *, latents: int = 20, width: int = 500, depth: int = 1, kl_annealing: int = 0, data_dir: Location = ""
) -> Fit:
    """VAE on MNIST in black and white, at the paper's scale.

    VAE of one hidden layer of 500 units on either side, a Bernoulli for each pixel; digits from the Hugging Face hub.

    Args:
        latents: of an image.
        width: units of each hidden layer, of encoder and decoder.
        depth: hidden layers of each.
        kl_annealing: steps over which the divergence's weight rises to 1.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
    """
    from lightning_modules.vae.vae import VAE

    return on_mnist(partial(VAE, kl_annealing=kl_annealing), latents, width, depth, data_dir)


@fit(
    system="VAE", data="gauss_image", headline=PAPER, claim=Claim("gap_nats", at_most=0.035),
    space={"lr": "loguniform(1e-3,3e-2)"}, steps=3000, batch=512, lr=1e-2, warmup=100, ema=0.998,
)  # fmt: skip
def vae_ppca(*, latents: int = 8, size: int = 8) -> Fit:
    """Linear VAE on a known Gaussian: its bound against the exact evidence of probabilistic PCA.

    VAE with linear encoder and decoder on Gaussian images, whose best evidence with so many latents is known.

    Args:
        latents: of an image.
        size: height and width of the images.
    """
    from datamodules.labs.gauss_image import GaussImage
    from lightning_modules.vae.linear import linear_vae

    images = GaussImage(size=size)
    return Fit(linear_vae(images.shape, latents), images, gap_to_ppca)


def gap_to_ppca(model: VAE, data: GaussImage) -> dict[str, float]:
    """Nats of an image by which the bound misses the evidence of probabilistic PCA, its standard error, and the posterior's share."""

    from lightning_modules.vae.linear import as_linear_gaussian, ppca

    x = data.test(32768)["x"].to(model.device)
    bound = model.log_prob(x, rng=measuring()).double().cpu()
    best, own = ppca(data.mean, data.cov, model.latents).log_prob(x.cpu()), as_linear_gaussian(model).log_prob(x.cpu())
    lost = best - bound
    error = lost.std().item() / len(x) ** 0.5
    return {"gap_nats": lost.mean().item(), "standard_error": error, "posterior_gap_nats": (own - bound).mean().item()}
