"""Plans that the VAE's recipes share: multilayer perceptrons around any kind of VAE, on vectors, digits and MNIST."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ray_jobs.recipe import Fit
from ray_jobs.recipe.measures import bound_above_entropy

if TYPE_CHECKING:
    from torch import nn

    from datamodules.base import Data
    from lightning_modules.vae.likelihood import Likelihood
    from lightning_modules.vae.vae import VAE

    MakeVAE = Callable[[nn.Module, nn.Module, Likelihood, tuple[int, ...], int], VAE]
    """(encoder, decoder, likelihood, shape of an example, latents) -> the model."""


def on_vectors(
    make: MakeVAE, density: str, size: int, latents: int, width: int, *, context: int = 0, narrow: bool = False
) -> Fit:
    """A VAE of vectors [B, size] of a known density, with a Gaussian for each element.

    Args:
        make: builds the model of its parts.
        density: a name of `datamodules.labs.vectors`.
        width: units of each of two hidden layers, of encoder and decoder.
        context: features that the encoder outputs besides the latents' parameters.
        narrow: whether to start with `narrow_start`.
    """
    from datamodules.labs.vectors import vectors
    from lightning_modules.nets.conditioned import MLP
    from lightning_modules.vae.likelihood import Gaussian
    from lightning_modules.vae.vae import narrow_start

    points = vectors(density, size)
    encoder, decoder = MLP(size, 2 * latents + context, width=width), MLP(latents, 2 * size, width=width)
    if narrow:
        narrow_start(encoder, decoder, latents)
    model = make(encoder, decoder, Gaussian(0.2, per_element=True), points.shape, latents)
    return Fit(model, points, bound_above_entropy)


def on_digits(make: MakeVAE, latents: int, width: int, *, context: int = 0) -> Fit:
    """A VAE of the 8x8 digits of scikit-learn, with a logistic for each pixel; arguments as in `on_vectors`."""
    from torch import nn

    from datamodules.readers.digits import LEVELS, Digits
    from lightning_modules.nets.conditioned import MLP
    from lightning_modules.vae.likelihood import DiscretisedLogistic

    encoder = nn.Sequential(nn.Flatten(), MLP(64, 2 * latents + context, width=width))
    decoder = nn.Sequential(MLP(latents, 128, width=width), nn.Unflatten(1, (2, 8, 8)))
    model = make(encoder, decoder, DiscretisedLogistic(LEVELS, per_element=True), Digits.shape, latents)
    return Fit(model, Digits(), bits_of_digits)


def bits_of_digits(model: VAE, data: Data) -> dict[str, float]:
    """Code length of held-out digits by the bound of 200 draws and by the ELBO, and of the training digits by 20 draws."""
    import torch

    rng = torch.Generator().manual_seed(0)
    x, seen = data.test()["x"].to(model.device), data.seen()["x"].to(model.device)

    def bits(of: torch.Tensor, k: int) -> float:
        return model.bits_per_dim(of, k=k, rng=rng).mean().item()

    one = sum(bits(x, 1) for _ in range(20)) / 20
    return {"bits_per_dim": bits(x, 200), "elbo_bits_per_dim": one, "train_bits_per_dim": bits(seen, 20)}


def on_mnist(make: MakeVAE, latents: int, width: int, depth: int, data_dir: str) -> Fit:
    """A VAE of MNIST's digits in black and white, with a Bernoulli for each pixel.

    Args:
        make: builds the model of its parts.
        width, depth: units and number of hidden layers, of encoder and decoder.
        data_dir: local folder of parquet files; '' takes the Hugging Face hub.
    """
    from torch import nn

    from datamodules.binary import Binary
    from datamodules.readers.images import Images
    from lightning_modules.nets.conditioned import MLP
    from lightning_modules.vae.likelihood import Bernoulli

    encoder = nn.Sequential(nn.Flatten(), MLP(784, 2 * latents, width=width, depth=depth))
    decoder = nn.Sequential(MLP(latents, 784, width=width, depth=depth), nn.Unflatten(1, (1, 28, 28)))
    model = make(encoder, decoder, Bernoulli(), (1, 28, 28), latents)
    return Fit(model, Binary(Images(name="ylecun/mnist", data_dir=data_dir), by_chance=True), nats_of_images)


def nats_of_images(model: VAE, data: Data) -> dict[str, float]:
    """Log probability of a held-out image in nats by the bound of 500 draws, and by the ELBO."""
    import torch

    x, rng = data.test(2000)["x"].to(model.device), torch.Generator().manual_seed(0)
    nats = {"log_prob": 500, "elbo": 1}
    return {name: model.log_prob(x, k=k, rng=rng).mean().item() for name, k in nats.items()}
