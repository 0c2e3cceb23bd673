"""The linear VAE and autoencoder, and probabilistic and plain PCA, which are the best that they can reach.

Source: Tipping & Bishop 1999, "Probabilistic principal component analysis", eq. 6 to 9; that the bound reaches it: Lucas
et al. 2019, arXiv:1911.02469, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_modules.draws import Draws
from lightning_modules.optim import Adam, Optim
from lightning_modules.vae.autoencoder_kl import AutoencoderKL
from lightning_modules.vae.first_stage import squared
from lightning_modules.vae.likelihood import Gaussian
from lightning_modules.vae.vae import VAE


class Encoder(nn.Module):
    """A linear encoder: means that are linear in x, and log deviations that are the same for all x."""

    def __init__(self, size: int, latents: int) -> None:
        super().__init__()
        self.mean = nn.Linear(size, latents)
        self.log_std = nn.Parameter(torch.zeros(latents))

    def forward(self, x: Tensor) -> Tensor:
        """[B, *shape] -> [B, 2 L]."""
        mean = self.mean(x.flatten(1))
        return torch.cat([mean, self.log_std.expand_as(mean)], 1)


def linear_vae(shape: tuple[int, ...], latents: int, *, optim: Optim = Adam()) -> VAE:
    """A VAE with linear encoder and decoder and a Gaussian likelihood with one deviation."""
    size = math.prod(shape)
    decoder = nn.Sequential(nn.Linear(latents, size), nn.Unflatten(1, shape))
    return VAE(Encoder(size, latents), decoder, Gaussian(), shape, latents, optim=optim)


@dataclass(frozen=True)
class LinearGaussian:
    """The model z ~ N(0, I), x = loading z + mean + N(0, variance I); in float64.

    Args:
        loading: [D, L].
        mean: [D].
        variance: [].
    """

    loading: Tensor
    mean: Tensor
    variance: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """The exact evidence [B] of x [B, *D]."""
        cov = self.loading @ self.loading.T + self.variance * torch.eye(len(self.mean)).to(self.loading)
        return torch.distributions.MultivariateNormal(self.mean, cov).log_prob(x.flatten(1).to(self.mean))

    def posterior(self) -> tuple[Tensor, Tensor]:
        """The posterior N(gain (x - mean), covariance) of the latents given x: gain [L, D] and covariance [L, L]."""
        inner = self.loading.T @ self.loading + self.variance * torch.eye(self.loading.shape[1]).to(self.loading)
        return torch.linalg.solve(inner, self.loading.T), self.variance * torch.linalg.inv(inner)

    def diagonal_gap(self) -> float:
        """The divergence in nats from the best posterior of independent latents to the exact one; the same for all x."""
        exact = self.posterior()[1]
        precise = torch.linalg.inv(exact)
        return 0.5 * (precise.diagonal().log().sum() + torch.logdet(exact)).item()


def ppca(mean: Tensor, cov: Tensor, latents: int) -> LinearGaussian:
    """Probabilistic PCA: the best linear-Gaussian model of data with mean [D] and covariance [D, D].

    Its latents are independent given x. Source: Tipping & Bishop 1999, eq. 7 and 8, with R = I.
    """
    values, axes = torch.linalg.eigh(cov.double())
    variance = values[:-latents].mean()
    loading = axes[:, -latents:] * (values[-latents:] - variance).sqrt()
    return LinearGaussian(loading, mean.double(), variance)


def rotated(model: LinearGaussian, rng: torch.Generator) -> LinearGaussian:
    """The model with its latents rotated at random: the evidence is the same, and they now depend on each other given x."""
    side = model.loading.shape[1]
    rotation = torch.linalg.qr(torch.randn(side, side, generator=rng, dtype=torch.float64))[0]
    return LinearGaussian(model.loading @ rotation, model.mean, model.variance)


def fix_decoder(model: VAE, truth: LinearGaussian) -> VAE:
    """Set the weights of a VAE's linear decoder and Gaussian likelihood to a known model's, and freeze them; returns the VAE."""
    layer, scale = model.decoder[0], model.likelihood.log_std
    with torch.no_grad():
        layer.weight.copy_(truth.loading)
        layer.bias.copy_(truth.mean)
        scale.copy_(truth.variance.log() / 2)
    model.decoder.requires_grad_(False)
    model.likelihood.requires_grad_(False)
    return model


def as_linear_gaussian(model: VAE) -> LinearGaussian:
    """The generative model of a linear VAE, its decoder and likelihood, on the CPU as every exact answer."""
    layer = model.decoder[0]
    loading, mean, log_std = (p.detach().cpu().double() for p in (layer.weight, layer.bias, model.likelihood.log_std))
    return LinearGaussian(loading, mean, (2 * log_std).exp())


@torch.no_grad()
def set_optimum(model: VAE, best: LinearGaussian) -> VAE:
    """Set a linear VAE's weights to a model, and to the best encoder for it with independent latents; returns the VAE."""
    gain, cov = best.posterior()
    fix_decoder(model, best)
    model.encoder.mean.weight.copy_(gain)
    model.encoder.mean.bias.copy_(-gain @ best.mean)
    model.encoder.log_std.copy_(-torch.linalg.inv(cov).diagonal().log() / 2)
    return model


def linear_autoencoder(
    shape: tuple[int, ...], latents: int, *, log_variance: float = -10.0, optim: Optim = Adam()
) -> AutoencoderKL:
    """A linear autoencoder with squared error, as a first stage; its posterior is so narrow that it costs nothing.

    No linear map to so few latents has a smaller error than `PrincipalComponents` (Eckart & Young 1936).

    Args:
        shape: of an example.
        latents: of an example.
        log_variance: of the posterior at first.
        optim: of all weights.
    """
    size = math.prod(shape)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, 2 * latents))
    with torch.no_grad():
        encoder[1].weight[latents:] = 0
        encoder[1].bias[latents:] = log_variance
    decoder = nn.Sequential(nn.Linear(latents, size), nn.Unflatten(1, shape))
    return AutoencoderKL(encoder, decoder, shape, (latents,), kl_weight=0.0, distance=squared, optim=optim)


class PrincipalComponents(nn.Module):
    """The first stage of the k directions in which data vary most: of Gaussian data, its latents are independent Gaussians.

    The mean squared error of reconstructions, summed over entries, is the sum of the other directions' variances; so is the squared
    Frechet distance of decoded true latents to the data.

    Args:
        mean: of the data, [D].
        cov: of the data, [D, D].
        latents: k.
        shape: of an example, of D entries.
    """

    def __init__(self, mean: Tensor, cov: Tensor, latents: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        values, axes = torch.linalg.eigh(cov.double())
        self.shape, self.variances = shape, values[-latents:]
        self.discarded = values[:-latents].sum().item()
        self.mean: Tensor
        self.axes: Tensor
        self.register_buffer("mean", mean.float())
        self.register_buffer("axes", axes[:, -latents:].float())

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(k,)."""
        return (self.axes.shape[1],)

    def moments(self, x: Tensor) -> Tensor:
        """The coordinates [B, k] of x [B, *shape]."""
        return (x.flatten(1) - self.mean) @ self.axes

    def draw(self, moments: Tensor, draws: Draws) -> Tensor:
        """The coordinates themselves."""
        return moments

    def encode(self, x: Tensor, draws: Draws) -> Tensor:
        """The coordinates [B, k]."""
        return self.moments(x)

    def decode(self, z: Tensor) -> Tensor:
        """The example [B, *shape] of coordinates, with 0 in all other directions."""
        return (self.mean + z @ self.axes.T).unflatten(1, self.shape)
