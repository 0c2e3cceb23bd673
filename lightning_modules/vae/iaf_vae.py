"""A VAE whose posterior is an inverse autoregressive flow: latents that depend on each other, drawn in one pass.

System: VAE with IAF posterior
Source: Kingma et al. 2016, arXiv:1606.04934, section 3 and algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.flows.autoregressive import Autoregressive
from lightning_modules.nets.masked import MaskedMLP
from lightning_modules.optim import Adam, Optim
from lightning_modules.vae.likelihood import Likelihood
from lightning_modules.vae.vae import VAE


def gated(params: Tensor, open: float = 1.5) -> tuple[Tensor, Tensor]:
    """Log scale log g and shift (1 - g) m of z -> g z + (1 - g) m, with g = sigmoid(s + open).

    Source: algorithm 1 and eq. 14; gates that start open: the end of section 3.

    Args:
        params: m and s in blocks along dimension 1, [B, 2 L, *].
    """
    gate, shift = params.chunk(2, 1)
    gate = gate + open
    return F.logsigmoid(gate), torch.sigmoid(-gate) * shift


def iaf_steps(latents: int, depth: int, hidden: tuple[int, ...], context: int) -> list[Autoregressive]:
    """Autoregressive steps, each in the reverse order of the one before, and conditioned on a context [B, context]."""
    orders = [torch.arange(latents), torch.arange(latents).flip(0)]
    nets = [MaskedMLP(latents, hidden, 2, cond=context, order=orders[i % 2], activation=F.elu) for i in range(depth)]
    return [Autoregressive(net, gated) for net in nets]


class IAFVAE(VAE):
    """A VAE whose posterior passes independent Gaussian latents through `depth` autoregressive steps.

    Args:
        encoder: x [B, *shape] -> [B, 2 L + context].
        context: features that the encoder outputs for every step.
        depth: steps.
        hidden: units of each hidden layer in each of them.
        decoder, likelihood, shape, latents, free_bits, group_size, kl_annealing, optim: as in `VAE`.
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
        free_bits: float = 0.0,
        group_size: int = 1,
        kl_annealing: int = 0,
        optim: Optim = Adam(),
    ) -> None:
        super().__init__(
            encoder,
            decoder,
            likelihood,
            shape,
            latents,
            free_bits=free_bits,
            group_size=group_size,
            kl_annealing=kl_annealing,
            optim=optim,
        )
        self.context = context
        self.steps = nn.ModuleList(iaf_steps(latents, depth, hidden, context))

    def posterior(self, params: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """As in `VAE`, followed by the steps."""
        gaussian, context = params.split([2 * self.latents, self.context], 1)
        z, log_q = super().posterior(gaussian, eps)
        for step in self.steps:
            scale, shift = step.scale_and_shift(step.net(z, context))
            z, log_q = z * scale.exp() + shift, log_q - scale
        return z, log_q

    def divergence(self, params: Tensor, z: Tensor, log_q: Tensor) -> Tensor:
        """log q(z | x) - log p(z) at the draw, of each latent [B, L]: its mean is the divergence."""
        return log_q - self.log_prior(z)
