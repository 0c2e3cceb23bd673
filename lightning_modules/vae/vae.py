"""The variational autoencoder: an encoder's guess of the latents, a decoder, and the bound that trains both.

Source: Kingma & Welling 2014, arXiv:1312.6114, eq. 10 and algorithm 1; the bound of many draws: Burda et al. 2016,
arXiv:1509.00519, eq. 8; free bits: Kingma et al. 2016, arXiv:1606.04934, eq. 15.
Differs: Adam in place of Adagrad.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules import objectives, optim
from lightning_modules.model import Batch, Generative, evaluating
from lightning_modules.nets.conditioned import MLP
from lightning_modules.vae.likelihood import Likelihood, noise


def rise(step: int, steps: int) -> float:
    """The weight of the divergence at an optimiser step: it rises linearly to 1 over the first `steps` of them.

    Source: Sonderby et al. 2016, arXiv:1602.02282, section 2.
    """
    return min(1.0, (step + 1) / max(1, steps))


@torch.no_grad()
def narrow_start(encoder: MLP, decoder: MLP, latents: int, std: float = 0.14) -> None:
    """Let training begin with posteriors of deviation `std` and networks that tell examples apart, in place of the prior and none.

    The decoder then reads the latents before their divergence counts, so fewer seeds give one up. `MLP` begins with zeros, for couplings.
    """
    for net in (encoder, decoder):
        net.leave.reset_parameters()
    encoder.leave.bias[latents : 2 * latents] = math.log(std)


def free_bits(kl: Tensor, free: float, mean: Tensor | None = None) -> Tensor:
    """What is paid [] for divergences [B, G] of groups of latents: of each its mean over the examples, but at least `free` nats.

    Args:
        mean: [G], over the examples of all workers; None: `kl` holds them all.
    """
    own = kl.mean(0)
    return torch.where((own if mean is None else mean) > free, own, free).sum()


class Inferred(NamedTuple):
    """What one draw of the latents gives."""

    out: Tensor
    """The decoder's, for the likelihood to read."""
    kl: Tensor
    """[B, G]: what the draw says of the divergence of each part of the latents, or that in closed form."""
    log_ratio: Tensor
    """[B]: log p(z) - log q(z | x)."""


class VAE(Generative):
    """Latents N(0, I), a posterior of independent Gaussians, and a likelihood of independent numbers.

    Args:
        encoder: x [B, *shape] -> [B, 2 L], means and log deviations of the latents.
        decoder: z [B, L] -> what `likelihood` reads.
        likelihood: of x given the decoder's output.
        shape: of an example.
        latents: L.
        free: nats that the divergence of each group of latents costs at least.
        group: latents in a group, for `free`.
        kl_rise: steps over which the divergence's weight rises to 1.
        lr, warmup: of Adam; steps over which the learning rate rises.

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
        free: float = 0.0,
        group: int = 1,
        kl_rise: int = 0,
        lr: float = 1e-3,
        warmup: int = 0,
    ) -> None:
        super().__init__()
        if latents % group:
            raise ValueError(f"{latents} latents do not divide into groups of {group}.")
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.shape, self.latents = tuple(shape), latents
        self.free, self.group, self.kl_rise = free, group, kl_rise
        self.lr, self.warmup = lr, warmup

    # ---- posterior and prior

    def posterior(self, told: Tensor, even: Tensor) -> tuple[Tensor, Tensor]:
        """From the encoder's numbers and standard normal ones [B, L]: latents [B, L], and each one's share [B, L] of log q(z | x)."""
        mean, log_std = told.chunk(2, 1)
        return mean + log_std.exp() * even, objectives.gaussian_log_prob(
            even, even.new_zeros(()), even.new_ones(())
        ) - log_std

    def log_prior(self, z: Tensor) -> Tensor:
        """Log density of latents in parts [B, G] that sum to the whole; here of each latent."""
        return objectives.gaussian_log_prob(z, z.new_zeros(()), z.new_ones(()))

    def draw_prior(self, normal: Tensor) -> Tensor:
        """Standard normal numbers [n, L] -> latents [n, L]."""
        return normal

    def divergence(self, told: Tensor, z: Tensor, log_q: Tensor) -> Tensor:
        """KL(q(z | x) || p(z)) in parts [B, G] that sum to the whole; here of each latent, in closed form."""
        mean, log_std = told.chunk(2, 1)
        return objectives.gaussian_kl(mean, (2 * log_std).exp(), mean.new_zeros(()), mean.new_ones(()))

    def infer(self, told: Any, even: Tensor) -> Inferred:
        """What follows from the encoder's word and standard normal numbers [B, L]."""
        z, log_q = self.posterior(told, even)
        ratio = self.log_prior(z).sum(1) - log_q.sum(1)
        return Inferred(self.decoder(z), self.divergence(told, z, log_q), ratio)

    def generate(self, normal: Tensor) -> Tensor:
        """Standard normal numbers [n, L] -> what the likelihood reads."""
        return self.decoder(self.draw_prior(normal))

    # ---- training

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The negative bound in nats per dimension, in two parts."""
        x = self.fitting(batch["x"])
        out, kl, _ = self.infer(self.encoder(x), self.draws.normal(len(x), self.latents, device=x.device))
        size, scale = x[0].numel(), rise(self.draws.step, self.kl_rise)
        distortion = -self.likelihood.log_prob(x, out).mean()
        return {"distortion": distortion / size, "kl": scale * self.paid(kl) / size}

    def paid(self, kl: Tensor) -> Tensor:
        """The divergence [] that counts, of parts [B, G]. Each micro-batch of a step is for itself in what is free."""
        groups = kl.unflatten(1, (-1, self.group)).sum(2) if self.group > 1 else kl
        if not self.free:
            return groups.sum(1).mean()
        shared = self._trainer is not None and self.trainer.world_size > 1
        mean = self.trainer.strategy.reduce(groups.detach().mean(0), reduce_op="mean") if shared else None
        return free_bits(groups, self.free, mean)

    # ---- use

    def log_weight(self, x: Tensor, told: Any, even: Tensor) -> Tensor:
        """log p(x, z) - log q(z | x), [B], at one draw of z: the bound without bias."""
        found = self.infer(told, even)
        return self.likelihood.log_prob(x, found.out) + found.log_ratio

    def log_prob(
        self, x: Tensor, cond: Tensor | None = None, *, k: int = 1, rng: torch.Generator | None = None
    ) -> Tensor:
        """A lower bound [B] on log p(x) in nats: the importance-weighted one of `k` draws, of which the mean rises with k.

        Of k = 1 it is the ELBO by one draw.
        """
        with evaluating(self):
            told = self.encoder(self.fitting(x))
            like = x.new_empty(len(x), self.latents)
            return objectives.iwae(torch.stack([self.log_weight(x, told, noise(like, rng)) for _ in range(k)]))

    def bits_per_dim(self, x: Tensor, *, k: int = 1, rng: torch.Generator | None = None) -> Tensor:
        """An upper bound [B] on the code length of grey levels in bits per dimension."""
        return objectives.bits_per_dim(self.log_prob(x, k=k, rng=rng), x[0].numel())

    @torch.no_grad()
    def sample(
        self, n: int, cond: Tensor | None = None, *, rng: torch.Generator | None = None, mean: bool = False
    ) -> Tensor:
        """Draws [n, *shape]; with `mean` those of the latents alone, without the noise of the likelihood.

        Raises:
            ValueError: labels are given.
        """
        if cond is not None:
            raise ValueError("This model was trained without labels and cannot be sampled given any.")
        like = next(self.decoder.parameters()).new_empty(n, self.latents)
        with evaluating(self):
            out = self.generate(noise(like, rng))
        return self.likelihood.mean(out) if mean else self.likelihood.draw(out, rng)

    @torch.no_grad()
    def encode(self, x: Tensor, *, rng: torch.Generator | None = None) -> Tensor:
        """Latents [B, L] drawn from the posterior."""
        with evaluating(self):
            return self.posterior(self.encoder(self.fitting(x)), noise(x.new_empty(len(x), self.latents), rng))[0]

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """The mean [B, *shape] of what latents [B, L] say."""
        with evaluating(self):
            return self.likelihood.mean(self.decoder(z))

    def pictures(self, data: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """Rows of eight held-out examples over their reconstructions, and eight ways in latent space between two of them."""
        x = data.test(32)["x"].to(self.device)
        z = self.encode(x, rng=rng)
        rows = [torch.cat([x[i : i + 8], self.decode(z[i : i + 8])]) for i in range(0, min(32, len(x) // 8 * 8), 8)]
        way = torch.linspace(0, 1, 8).to(z)[:, None, None]
        pairs = z[:16].unflatten(0, (8, 2))
        ways = (pairs[:, 0] * (1 - way) + pairs[:, 1] * way).transpose(0, 1).flatten(0, 1)
        return {"reconstructions": torch.cat(rows), "interpolations": self.decode(ways)}

    def configure_optimizers(self) -> dict[str, Any]:
        return optim.adam(self, self.lr, warmup=self.warmup)
