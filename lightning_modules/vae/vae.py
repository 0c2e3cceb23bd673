"""The variational autoencoder: an encoder that infers the latents, a decoder, and the bound that trains both.

System: VAE
Source: Kingma & Welling 2014, arXiv:1312.6114, eq. 10 and algorithm 1; the bound of many draws: Burda et al. 2016,
arXiv:1509.00519, eq. 8; free bits: Kingma et al. 2016, arXiv:1606.04934, eq. 15.
Differs: Adam in place of Adagrad.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules import objectives
from lightning_modules.compat import trainer_of
from lightning_modules.conditions import Cond, without_labels
from lightning_modules.model import Batch, Generative, evaluating
from lightning_modules.nets.conditioned import MLP
from lightning_modules.optim import Adam, Optim
from lightning_modules.vae.likelihood import Likelihood, normal_like


def kl_weight(step: int, annealing: int) -> float:
    """The weight of the divergence at an optimiser step: it rises linearly to 1 over the first `annealing` steps.

    Source: Sonderby et al. 2016, arXiv:1602.02282, section 2.
    """
    return min(1.0, (step + 1) / max(1, annealing))


@torch.no_grad()
def narrow_start(encoder: MLP, decoder: MLP, latents: int, std: float = 0.14) -> None:
    """Start with posteriors of deviation `std`, and with an encoder and a decoder whose outputs depend on their inputs.

    The decoder then reads the latents before their divergence costs much, so fewer seeds leave a latent unused. Without this the
    last layers are zero, as couplings need them, and every posterior starts as the prior.
    """
    for net in (encoder, decoder):
        net.leave.reset_parameters()
    encoder.leave.bias[latents : 2 * latents] = math.log(std)


def free_bits_kl(kl: Tensor, free_bits: float, mean: Tensor | None = None) -> Tensor:
    """The sum [] over groups of latents of their mean divergence, but at least `free_bits` nats for each.

    Source: Kingma et al. 2016, arXiv:1606.04934, eq. 15.

    Args:
        kl: [B, G], of each example and group.
        mean: [G], over the examples of all workers; None: `kl` holds them all.
    """
    own = kl.mean(0)
    return torch.where((own if mean is None else mean) > free_bits, own, free_bits).sum()


class Inferred(NamedTuple):
    """The decoder's outputs and the divergence for one draw of the latents."""

    out: Tensor
    """The decoder's outputs, which the likelihood takes."""
    kl: Tensor
    """[B, G]: the divergence of each part of the latents, estimated by the draw or in closed form."""
    log_ratio: Tensor
    """[B]: log p(z) - log q(z | x)."""


class VAE(Generative):
    """Latents N(0, I), a posterior of independent Gaussians, and a likelihood whose elements are independent.

    Args:
        encoder: x [B, *shape] -> posterior parameters [B, 2 L], means and log deviations of the latents.
        decoder: z [B, L] -> the likelihood's parameters.
        likelihood: of x given the decoder's outputs.
        shape: of an example.
        latents: L.
        free_bits: nats that the divergence of each group of latents costs at least.
        group_size: latents in a group, for `free_bits`.
        kl_annealing: steps over which the divergence's weight rises to 1.
        optim: of all weights.

    Raises:
        ValueError: the groups do not divide the latents.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        shape: tuple[int, ...],
        latents: int,
        *,
        free_bits: float = 0.0,
        group_size: int = 1,
        kl_annealing: int = 0,
        optim: Optim = Adam(),
    ) -> None:
        super().__init__()
        if latents % group_size:
            raise ValueError(f"{latents} latents do not divide into groups of {group_size}.")
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.shape, self.latents, self.optim = tuple(shape), latents, optim
        self.free_bits, self.group_size, self.kl_annealing = free_bits, group_size, kl_annealing

    # ---- posterior and prior

    def posterior(self, params: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """A draw from q(z | x): latents [B, L], and the share [B, L] of each in log q(z | x).

        Args:
            params: the encoder's outputs.
            eps: [B, L], standard normal.
        """
        mean, log_std = params.chunk(2, 1)
        log_eps = objectives.gaussian_log_prob(eps, eps.new_zeros(()), eps.new_ones(()))
        return mean + log_std.exp() * eps, log_eps - log_std

    def log_prior(self, z: Tensor) -> Tensor:
        """Log density of latents [B, L] in parts [B, G] that sum to the whole; here of each latent."""
        return objectives.gaussian_log_prob(z, z.new_zeros(()), z.new_ones(()))

    def draw_prior(self, eps: Tensor) -> Tensor:
        """Latents [n, L] of the prior, from standard normal numbers [n, L]."""
        return eps

    def divergence(self, params: Tensor, z: Tensor, log_q: Tensor) -> Tensor:
        """KL(q(z | x) || p(z)) in parts [B, G] that sum to the whole; here of each latent, in closed form.

        Args:
            params: the encoder's outputs.
            z, log_q: [B, L], as `posterior` returns them.
        """
        mean, log_std = params.chunk(2, 1)
        return objectives.gaussian_kl(mean, (2 * log_std).exp(), mean.new_zeros(()), mean.new_ones(()))

    def infer(self, params: Any, eps: Tensor) -> Inferred:
        """Draw the latents, from the encoder's outputs and standard normal numbers [B, L], and decode them."""
        z, log_q = self.posterior(params, eps)
        ratio = self.log_prior(z).sum(1) - log_q.sum(1)
        return Inferred(self.decoder(z), self.divergence(params, z, log_q), ratio)

    def generate(self, eps: Tensor) -> Tensor:
        """The decoder's outputs for latents of the prior, from standard normal numbers [n, L]."""
        return self.decoder(self.draw_prior(eps))

    # ---- training

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The negative bound in nats per dimension, in two parts: eq. 10 with the weights of annealing and free bits."""
        x = self.fitting(batch["x"], self.likelihood.levels)
        out, kl, _ = self.infer(self.encoder(x), self.draws.normal(len(x), self.latents, device=x.device))
        size, weight = x[0].numel(), kl_weight(self.draws.step, self.kl_annealing)
        distortion = -self.likelihood.log_prob(x, out).mean()
        return {"distortion": distortion / size, "kl": weight * self.kl_loss(kl) / size}

    def kl_loss(self, kl: Tensor) -> Tensor:
        """The divergence [] with free bits, from its parts [B, G]; each micro-batch of a step decides by itself which groups are free."""
        groups = kl.unflatten(1, (-1, self.group_size)).sum(2) if self.group_size > 1 else kl
        if not self.free_bits:
            return groups.sum(1).mean()
        trainer = trainer_of(self)
        shared = trainer is not None and trainer.world_size > 1
        mean = self.trainer.strategy.reduce(groups.detach().mean(0), reduce_op="mean") if shared else None
        return free_bits_kl(groups, self.free_bits, mean)

    # ---- use

    def log_weight(self, x: Tensor, params: Any, eps: Tensor) -> Tensor:
        """log p(x, z) - log q(z | x), [B], at one draw of z: an unbiased estimate of the bound."""
        found = self.infer(params, eps)
        return self.likelihood.log_prob(x, found.out) + found.log_ratio

    def log_prob(
        self, x: Tensor, cond: Tensor | None = None, *, k: int = 1, rng: torch.Generator | None = None
    ) -> Tensor:
        """A lower bound [B] on log p(x) in nats: the importance-weighted bound of `k` draws, whose mean rises with k.

        With k = 1 it is the ELBO, by one draw.

        Raises:
            ValueError: as `fitting`, or labels are given.
        """
        without_labels(cond)
        with evaluating(self):
            params = self.encoder(self.fitting(x, self.likelihood.levels))
            like = x.new_empty(len(x), self.latents)
            return objectives.iwae(torch.stack([self.log_weight(x, params, normal_like(like, rng)) for _ in range(k)]))

    def bits_per_dim(self, x: Tensor, *, k: int = 1, rng: torch.Generator | None = None) -> Tensor:
        """An upper bound [B] on the code length of grey levels x [B, *shape] in bits per dimension, by `k` draws."""
        return objectives.bits_per_dim(self.log_prob(x, k=k, rng=rng), x[0].numel())

    @torch.no_grad()
    def sample(
        self, n: int, cond: Tensor | Cond | None = None, *, rng: torch.Generator | None = None, mean: bool = False
    ) -> Tensor:
        """Samples [n, *shape]; with `mean` the likelihood's means, without its noise.

        Raises:
            ValueError: labels are given.
        """
        without_labels(cond)
        like = next(self.decoder.parameters()).new_empty(n, self.latents)
        with evaluating(self):
            out = self.generate(normal_like(like, rng))
        return self.likelihood.mean(out) if mean else self.likelihood.draw(out, rng)

    @torch.no_grad()
    def encode(self, x: Tensor, *, rng: torch.Generator | None = None) -> Tensor:
        """Latents [B, L] drawn from the posterior of x [B, *shape]."""
        with evaluating(self):
            eps = normal_like(x.new_empty(len(x), self.latents), rng)
            return self.posterior(self.encoder(self.fitting(x, self.likelihood.levels)), eps)[0]

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """The likelihood's mean [B, *shape] for latents [B, L]."""
        with evaluating(self):
            return self.likelihood.mean(self.decoder(z))

    def pictures(self, data: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """Rows of eight held-out examples over their reconstructions, and eight interpolations between two latents, each in eight steps.

        Fewer than 16 held-out examples are repeated.
        """
        x = data.test(32)["x"].to(self.device)
        x = x[torch.arange(max(16, len(x))) % len(x)]
        z = self.encode(x, rng=rng)
        rows = [torch.cat([x[i : i + 8], self.decode(z[i : i + 8])]) for i in range(0, len(x) // 8 * 8, 8)]
        share = torch.linspace(0, 1, 8).to(z)[:, None, None]
        pairs = z[:16].unflatten(0, (8, 2))
        between = (pairs[:, 0] * (1 - share) + pairs[:, 1] * share).transpose(0, 1).flatten(0, 1)
        return {"reconstructions": torch.cat(rows), "interpolations": self.decode(between)}
