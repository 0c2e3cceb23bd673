"""A VAE whose prior is learned, by an autoregressive flow.

System: VAE with flow prior
Source: Chen et al. 2017, arXiv:1611.02731, section 3.2.
Differs: their decoder of images is autoregressive, too, and sees only near pixels; here any decoder will do.
"""

from __future__ import annotations

from torch import Tensor, nn

from lightning_modules.flows.bijection import Chain
from lightning_modules.flows.flow import normal_log_prob
from lightning_modules.flows.maf import layers
from lightning_modules.optim import Adam, Optim
from lightning_modules.vae.likelihood import Likelihood
from lightning_modules.vae.vae import VAE


class FlowPriorVAE(VAE):
    """A VAE whose prior is a chain of masked autoregressive flows.

    Args:
        depth: autoregressive layers of the prior.
        hidden: units of each hidden layer in each of them.
        free_bits: nats that the whole divergence costs at least.
        encoder, decoder, likelihood, shape, latents, kl_annealing, optim: as in `VAE`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        shape: tuple[int, ...],
        latents: int,
        *,
        depth: int = 3,
        hidden: tuple[int, ...] = (64,),
        free_bits: float = 0.0,
        kl_annealing: int = 0,
        optim: Optim = Adam(),
    ) -> None:
        super().__init__(
            encoder, decoder, likelihood, shape, latents, free_bits=free_bits, kl_annealing=kl_annealing, optim=optim
        )
        self.prior = Chain(layers(latents, depth, hidden, 0))

    def log_prior(self, z: Tensor) -> Tensor:
        """Log density of latents [B, L], of all together: [B, 1]."""
        eps, logdet = self.prior(z)
        return (normal_log_prob(eps).sum(1) + logdet)[:, None]

    def draw_prior(self, eps: Tensor) -> Tensor:
        """Latents [n, L] of the prior, from standard normal numbers [n, L]."""
        return self.prior.inverse(eps).value

    def divergence(self, params: Tensor, z: Tensor, log_q: Tensor) -> Tensor:
        """log q(z | x) - log p(z) at the draw, [B, 1]: its mean is the divergence."""
        return log_q.sum(1, keepdim=True) - self.log_prior(z)
