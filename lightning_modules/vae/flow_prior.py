"""A VAE whose prior is learned, by an autoregressive flow: what the posteriors of all examples fill together.

Source: Chen et al. 2017, arXiv:1611.02731, section 3.2.
Differs: their decoder of images is autoregressive, too, and sees only near pixels; here any decoder will do.
"""

from __future__ import annotations

from torch import Tensor, nn

from lightning_modules.flows.bijection import Chain
from lightning_modules.flows.flow import normal_log_prob
from lightning_modules.flows.maf import layers
from lightning_modules.vae.likelihood import Likelihood
from lightning_modules.vae.vae import VAE


class FlowPriorVAE(VAE):
    """As `VAE`; the prior is a chain of masked autoregressive flows.

    Args:
        depth: autoregressive layers of the prior.
        hidden: units of each hidden layer in each of them.
        free: nats that the whole divergence costs at least.
        encoder, decoder, likelihood, shape, latents, kl_rise, lr, warmup: as in `VAE`.
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
        free: float = 0.0,
        kl_rise: int = 0,
        lr: float = 1e-3,
        warmup: int = 0,
    ) -> None:
        super().__init__(encoder, decoder, likelihood, shape, latents, free=free, kl_rise=kl_rise, lr=lr, warmup=warmup)
        self.prior = Chain(layers(latents, depth, hidden, 0))

    def log_prior(self, z: Tensor) -> Tensor:
        """[B, 1]: of all latents together."""
        even, logdet = self.prior(z)
        return (normal_log_prob(even).sum(1) + logdet)[:, None]

    def draw_prior(self, normal: Tensor) -> Tensor:
        return self.prior.inverse(normal).value

    def divergence(self, told: Tensor, z: Tensor, log_q: Tensor) -> Tensor:
        """By the draw at hand: log q(z | x) - log p(z), [B, 1]."""
        return log_q.sum(1, keepdim=True) - self.log_prior(z)
