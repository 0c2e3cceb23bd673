"""VAE on handwritten digits, with a logistic for each pixel: half a minute on one core, no download."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.recipe import Claim, Fit, Headline, fit

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.vae.vae import VAE


@fit(
    system="VAE",
    data="digits",
    headline=Headline("Kingma & Welling 2014", arxiv="1312.6114"),
    claim=Claim("bits_per_dim", at_most=1.92),
    space={"lr": "loguniform(3e-4,5e-3)", "width": "choice(64,128,256)", "latents": "choice(8,16,32)"},
    steps=2500,
    batch=100,
    lr=1e-3,
    ema=0.995,
    grad_clip=1.0,
)
def vae_digits(
    *, batch: int, lr: float, latents: int = 16, width: int = 128, free: float = 0.0, kl_rise: int = 500
) -> Fit:
    """VAE on handwritten digits, with a logistic for each pixel: half a minute on one core, no download.

    VAE of two multilayer perceptrons on the 8x8 digits of scikit-learn.

    Args:
        latents: numbers that describe an image.
        width: units of each of two hidden layers, of encoder and decoder.
        free: nats that each latent's divergence costs at least.
        kl_rise: steps over which the divergence's weight rises to 1.
    """
    from torch import nn

    from datamodules.readers.digits import LEVELS, Digits
    from lightning_modules.nets.conditioned import MLP
    from lightning_modules.vae.likelihood import DiscretisedLogistic
    from lightning_modules.vae.vae import VAE

    shape, each = Digits.shape, DiscretisedLogistic(LEVELS, each=True)
    encoder = nn.Sequential(nn.Flatten(), MLP(64, 2 * latents, width=width))
    decoder = nn.Sequential(MLP(latents, 128, width=width), nn.Unflatten(1, (2, 8, 8)))
    model = VAE(encoder, decoder, each, shape, latents, free=free, kl_rise=kl_rise, lr=lr, warmup=100)
    return Fit(model, Digits(batch=batch), evaluate)


def evaluate(model: VAE, data: Data) -> dict[str, float]:
    """Code length of held-out digits by the bound of 200 draws and by that of one, and of the training digits."""
    import torch

    rng = torch.Generator().manual_seed(0)
    x, seen = data.test()["x"].to(model.device), data.train["x"].to(model.device)

    def bits(of: torch.Tensor, k: int) -> float:
        return model.bits_per_dim(of, k=k, rng=rng).mean().item()

    one = sum(bits(x, 1) for _ in range(20)) / 20
    return {"bits_per_dim": bits(x, 200), "elbo_bits_per_dim": one, "train_bits_per_dim": bits(seen, 20)}
