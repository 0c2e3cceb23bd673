"""An autoencoder whose latents are Gaussian and only lightly drawn towards N(0, I): the first stage of latent diffusion.

System: Latent diffusion, KL-regularised autoencoder
Source: Rombach et al. 2022, arXiv:2112.10752, section 3.1 and appendix G; the divergence: Kingma & Welling 2014,
arXiv:1312.6114, appendix B.
Differs: distance and divergence are both divided by the number of entries of an example, which leaves their ratio as it is; the
distance's scale, which the authors' code never trains, is 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_modules.draws import Draws
from lightning_modules.optim import Adam, Optim
from lightning_modules.vae.first_stage import Distance, FirstStage, Reconstruction, absolute, standard_normal


def divergence(mean: Tensor, std: Tensor) -> Tensor:
    """KL(N(mean, std^2) || N(0, I)), [B], summed over the latents of each example."""
    return 0.5 * (mean.square() + std.square() - 1 - 2 * std.log()).flatten(1).sum(1)


class AutoencoderKL(FirstStage):
    """An autoencoder with a posterior of independent Gaussians.

    Args:
        encoder: x [B, *shape] -> [B, 2 C, *], means and logarithms of variances of the latents [B, C, *].
        decoder, shape, latents, distance, perceptual, optim: as in `FirstStage`.
        kl_weight: of the divergence, per example, against the distance summed over the entries of the example.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        shape: tuple[int, ...],
        latents: tuple[int, ...],
        *,
        kl_weight: float = 1e-6,
        distance: Distance = absolute,
        perceptual: Distance | None = None,
        optim: Optim = Adam(),
    ) -> None:
        super().__init__(encoder, decoder, shape, latents, distance=distance, perceptual=perceptual, optim=optim)
        self.kl_weight = kl_weight

    def moments(self, x: Tensor) -> Tensor:
        """Means and standard deviations of the posterior, [B, 2 C, *]."""
        mean, log_variance = self.encoder(x).chunk(2, 1)
        return torch.cat([mean, (log_variance.clamp(-30, 20) / 2).exp()], 1)

    def draw(self, moments: Tensor, draws: Draws) -> Tensor:
        """Latents drawn from the posterior; its mean alone would have too small a variance."""
        mean, std = moments.chunk(2, 1)
        return mean + std * draws.normal(*mean.shape, device=mean.device).to(mean)

    def decode(self, z: Tensor) -> Tensor:
        """The decoder's output [B, *shape]."""
        return self.decoder(z)

    def reconstruct(self, x: Tensor) -> Reconstruction:
        """As in `FirstStage`; its loss is the weighted divergence."""
        moments = self.moments(x)
        kl = divergence(*moments.chunk(2, 1)).mean()
        made = self.decoder(self.draw(moments, self.draws))
        return Reconstruction(made, {"kl": self.kl_weight * kl / x[0].numel()})

    def prior(self, n: int, rng: torch.Generator | None) -> Tensor:
        """Latents of N(0, I)."""
        return standard_normal(self, n, rng)
