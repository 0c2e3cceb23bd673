"""A VAE whose posterior is an inverse autoregressive flow: latents that depend on each other, drawn in one pass.

Source: Kingma et al. 2016, arXiv:1606.04934, section 3 and algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.flows.autoregressive import Autoregressive
from lightning_modules.nets.masked import MaskedMLP
from lightning_modules.vae.likelihood import Likelihood
from lightning_modules.vae.vae import VAE


def gated(raw: Tensor, open: float = 1.5) -> tuple[Tensor, Tensor]:
    """Log scale log g and shift (1 - g) m, with g = sigmoid(s + open): z -> g z + (1 - g) m, two numbers for each latent.

    Source: algorithm 1 and eq. 14; gates that begin open: its end of section 3.
    """
    gate, shift = raw.chunk(2, 1)
    gate = gate + open
    return F.logsigmoid(gate), torch.sigmoid(-gate) * shift


def steps(latents: int, depth: int, hidden: tuple[int, ...], context: int) -> list[Autoregressive]:
    """Autoregressive steps whose orders turn around, each steered by the encoder's context."""
    orders = [torch.arange(latents), torch.arange(latents).flip(0)]
    nets = [MaskedMLP(latents, hidden, 2, cond=context, order=orders[i % 2], activation=F.elu) for i in range(depth)]
    return [Autoregressive(net, gated) for net in nets]


class IAFVAE(VAE):
    """As `VAE`; independent Gaussian latents then pass `depth` autoregressive steps.

    Args:
        encoder: x [B, *shape] -> [B, 2 L + context].
        context: numbers that the encoder tells every step.
        depth: steps.
        hidden: units of each hidden layer in each of them.
        decoder, likelihood, shape, latents, free, group, kl_rise, lr, warmup: as in `VAE`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        shape: tuple[int, ...],
        latents: int,
        *,
        context: int = 32,
        depth: int = 2,
        hidden: tuple[int, ...] = (64,),
        free: float = 0.0,
        group: int = 1,
        kl_rise: int = 0,
        lr: float = 1e-3,
        warmup: int = 0,
    ) -> None:
        super().__init__(
            encoder, decoder, likelihood, shape, latents, free=free, group=group, kl_rise=kl_rise, lr=lr, warmup=warmup
        )
        self.context = context
        self.steps = nn.ModuleList(steps(latents, depth, hidden, context))

    def posterior(self, told: Tensor, even: Tensor) -> tuple[Tensor, Tensor]:
        start, context = told.split([2 * self.latents, self.context], 1)
        z, log_q = super().posterior(start, even)
        for step in self.steps:
            scale, shift = step.scale_and_shift(step.net(z, context))
            z, log_q = z * scale.exp() + shift, log_q - scale
        return z, log_q

    def divergence(self, told: Tensor, z: Tensor, log_q: Tensor) -> Tensor:
        """By the draw at hand: log q(z | x) - log p(z), of each latent."""
        return log_q - self.log_prior(z)
