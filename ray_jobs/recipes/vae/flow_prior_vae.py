"""VAE with a learned autoregressive prior on known densities, digits and MNIST."""

from __future__ import annotations

from functools import partial

from ray_jobs.recipe import Claim, Fit, Headline, Location, Variant, fit
from ray_jobs.recipes.vae.builders import on_digits, on_mnist, on_vectors

PAPER = Headline("Chen et al. 2017", arxiv="1611.02731")


@fit(
    system="VAE with flow prior", data="density2d, moons", headline=PAPER, claim=Claim("excess_nats", at_most=0.2),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,128)"},
    variants={
        "wave": Variant("density2d, wave", Claim("excess_nats", at_most=0.15), {"density": "wave", "narrow": False}),
        "clayton": Variant("tabular, Clayton in 8 dimensions", Claim("excess_nats", at_most=0.45),
                           {"density": "clayton", "size": 8, "latents": 8}),
    },
    steps=3000, batch=256, lr=2e-3, warmup=100, ema=0.998, grad_clip=1.0,
)  # fmt: skip
def flow_prior_vae_density2d(
    *, density: str = "moons", size: int = 2, latents: int = 2, width: int = 96, depth: int = 2, hidden: int = 64,
    kl_annealing: int = 1000, free_bits: float = 1.25, narrow: bool = True
) -> Fit:  # fmt: skip
    """VAE with a learned autoregressive prior on vectors of a known density: by how much its bound misses the entropy.

    As vae_density2d, with a masked autoregressive flow as the latents' prior.

    Args:
        density: as in maf_density2d.
        size: dimensions.
        latents: of an example.
        width: units of each of two hidden layers, of encoder and decoder.
        depth: layers of the flow.
        hidden: units of the hidden layer of each of them.
        kl_annealing: steps over which the divergence's weight rises to 1.
        free_bits: nats that the whole divergence costs at least, so that no latent stays unused.
        narrow: start with narrow posteriors that differ between examples; without it two of three trainings failed on the banana. On
            the wave they end worse with it.
    """
    from lightning_modules.vae.flow_prior import FlowPriorVAE

    make = partial(FlowPriorVAE, depth=depth, hidden=(hidden,), kl_annealing=kl_annealing, free_bits=free_bits)
    return on_vectors(make, density, size, latents, width, narrow=narrow)


@fit(
    system="VAE with flow prior", data="digits, writers shared by both parts", headline=PAPER, claim=Claim("bits_per_dim", at_most=1.90),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,128,256)", "depth": "choice(1,2,4)"}, steps=2500,
    batch=100, lr=1e-3, warmup=100, ema=0.995, grad_clip=1.0,
)  # fmt: skip
def flow_prior_vae_digits(
    *, latents: int = 16, width: int = 128, depth: int = 2, hidden: int = 128, free_bits: float = 0.0,
    kl_annealing: int = 500
) -> Fit:  # fmt: skip
    """VAE with a learned autoregressive prior on handwritten digits: a minute on one core, no download.

    As vae_digits, with a masked autoregressive flow as the latents' prior.

    Args:
        latents: of an image.
        width: units of each of two hidden layers, of encoder and decoder.
        depth: layers of the flow.
        hidden: units of the hidden layer of each of them.
        free_bits: nats that the whole divergence costs at least.
        kl_annealing: steps over which the divergence's weight rises to 1.
    """
    from lightning_modules.vae.flow_prior import FlowPriorVAE

    make = partial(FlowPriorVAE, depth=depth, hidden=(hidden,), free_bits=free_bits, kl_annealing=kl_annealing)
    return on_digits(make, latents, width)


@fit(
    system="VAE with flow prior", data="MNIST", headline=PAPER,
    space={"lr": "loguniform(3e-4,3e-3)", "latents": "choice(16,32,64)"}, steps=300_000, batch=100, lr=1e-3,
    warmup=1000, ema=0.999, num_workers=4, grad_clip=10.0, save_every=10_000, log_every=100,
)  # fmt: skip
def vlae_mnist(
    *, latents: int = 64, width: int = 500, depth: int = 4, hidden: int = 640, free_bits: float = 0.6,
    kl_annealing: int = 10_000, data_dir: Location = ""
) -> Fit:  # fmt: skip
    """VAE with a learned autoregressive prior on MNIST in black and white, at the paper's scale.

    Two hidden layers on either side and a chain of masked autoregressive flows as prior; digits from the Hugging Face hub.
    The paper's networks are convolutions, and its decoder is autoregressive, too.

    Args:
        latents: of an image.
        width: units of each of two hidden layers, of encoder and decoder.
        depth: layers of the flow.
        hidden: units of the hidden layer of each of them.
        free_bits: nats that the whole divergence costs at least.
        kl_annealing: steps over which the divergence's weight rises to 1.
        data_dir: local folder of parquet files with the columns image and label; '' takes the hub.
    """
    from lightning_modules.vae.flow_prior import FlowPriorVAE

    make = partial(FlowPriorVAE, depth=depth, hidden=(hidden,), free_bits=free_bits, kl_annealing=kl_annealing)
    return on_mnist(make, latents, width, 2, data_dir)
