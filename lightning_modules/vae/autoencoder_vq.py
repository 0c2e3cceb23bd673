"""An autoencoder whose latents are replaced by the nearest vectors of a codebook.

System: Latent diffusion, VQ-regularised autoencoder
Source: van den Oord et al. 2017, arXiv:1711.00937, eq. 2 and 3; as a first stage: Rombach et al. 2022, arXiv:2112.10752, section 3.1
and appendix G. Codes that are not used restart at encoder outputs: Dhariwal et al. 2020, arXiv:2005.00341 (random restarts).
Differs: beta is the weight of the commitment, as in equation 3; the code of Rombach et al. puts it on the codebook's term.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.compat import trainer_of
from lightning_modules.draws import Draws, key, uniform
from lightning_modules.optim import Adam, Optim
from lightning_modules.vae.first_stage import Distance, FirstStage, Reconstruction, absolute

RESTART = 1
"""Distinguishes the draws of restarts from all others of a seed."""
AT_ONCE = 16_384
"""Vectors whose distances to all codes are computed at once."""


class Quantised(NamedTuple):
    """Latents and the codes that stand for them."""

    z: Tensor
    """The codes [B, C, *]; gradients pass to the latents as if these were the codes."""
    code: Tensor
    """The same, with gradients to the codebook."""
    index: Tensor
    """[B, *], long."""


def nearest(rows: Tensor, codebook: Tensor) -> Tensor:
    """Index [N] of the code that is nearest to each of rows [N, C], among codes [K, C]."""
    square = codebook.square().sum(1)
    parts = [torch.addmm(square, part, codebook.T, alpha=-2).argmin(1) for part in rows.split(AT_ONCE)]
    return torch.cat(parts)


def perplexity(counts: Tensor) -> Tensor:
    """exp of the entropy [] of how often each code is used, counts [K]: K where all are used alike."""
    share = counts / counts.sum().clamp(min=1)
    return torch.special.entr(share).sum().exp()


class AutoencoderVQ(FirstStage):
    """A vector-quantised autoencoder. Its latents are the encoder's outputs; `decode` quantises them first.

    Where a diffusion learns the latents before they are quantised, the quantisation is a part of its decoder.

    Codes that no latent used for `patience` steps restart at latents of the global batch. Which ones depends on the seed and on the
    step alone, so that any number of workers and of micro-batches restarts the same codes at the same latents.

    Args:
        encoder: x [B, *shape] -> latents [B, C, *].
        decoder, shape, latents, distance, perceptual, optim: as in `FirstStage`.
        codes: K, vectors in the codebook.
        beta: weight of the commitment of the encoder to the codes.
        patience: steps; 0 restarts no code.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        shape: tuple[int, ...],
        latents: tuple[int, ...],
        *,
        codes: int,
        beta: float = 0.25,
        patience: int = 100,
        distance: Distance = absolute,
        perceptual: Distance | None = None,
        optim: Optim = Adam(),
    ) -> None:
        super().__init__(encoder, decoder, shape, latents, distance=distance, perceptual=perceptual, optim=optim)
        if codes < 2:
            raise ValueError(f"A codebook holds at least 2 codes, not {codes}.")
        self.beta, self.patience = beta, patience
        self.codebook = nn.Parameter(torch.empty(codes, latents[0]).uniform_(-1 / codes, 1 / codes))
        self.used: Tensor
        self.seen: Tensor
        self.register_buffer("used", torch.zeros(codes, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(codes, latents[0]))

    # ---- the space

    def moments(self, x: Tensor) -> Tensor:
        """The latents, before they are quantised."""
        return self.encoder(x)

    def draw(self, moments: Tensor, draws: Draws) -> Tensor:
        """The latents themselves: nothing is random."""
        return moments

    def decode(self, z: Tensor) -> Tensor:
        """The decoder's output [B, *shape] for the codes nearest to latents [B, C, *]."""
        return self.decoder(self.quantise(z).z)

    def quantise(self, z: Tensor) -> Quantised:
        """Replace latents [B, C, *] by the nearest codes."""
        rows = z.movedim(1, -1)
        index = nearest(rows.detach().flatten(0, -2), self.codebook.detach().to(z)).reshape(rows.shape[:-1])
        code = F.embedding(index, self.codebook).movedim(-1, 1).to(z)
        return Quantised(
            code.detach() + (z - z.detach()), code, index
        )  # in this order the sum is the code, without rounding

    # ---- training

    def reconstruct(self, x: Tensor) -> Reconstruction:
        """As in `FirstStage`. Losses of the latents: the codebook moves to the latents, and the latents to their codes (eq. 3)."""
        trains = self.training and torch.is_grad_enabled()
        if trains and self._first_of_step():
            self._restart()
        z = self.moments(x)
        found = self.quantise(z)
        if trains:
            self._count(found.index, z.detach())
        terms = {
            "codebook": (found.code - z.detach()).square().mean(),
            "commitment": self.beta * (z - found.code.detach()).square().mean(),
        }
        return Reconstruction(self.decoder(found.z), terms)

    def logged(self) -> dict[str, float]:
        """The perplexity of the codes since the last restart, and the share of them that were used."""
        return {"perplexity": perplexity(self.used).item(), "codes_used": (self.used > 0).double().mean().item()}

    def _first_of_step(self) -> bool:
        """Whether this is the first micro-batch of its step."""
        trainer = trainer_of(self)
        return self.draws.part < (trainer.world_size if trainer else 1)

    @torch.no_grad()
    def _restart(self) -> None:
        """Every `patience` steps, put codes that were not used since at latents of the step before."""
        if self.patience and self.draws.step and self.draws.step % self.patience == 0:
            dead = ((self.used == 0) & (self.used.sum() > 0))[
                :, None
            ]  # nothing was counted before the first step of a training
            self.codebook.copy_(torch.where(dead, self.seen.to(self.codebook), self.codebook))
            self.used.zero_()
            self.seen.zero_()

    @torch.no_grad()
    def _count(self, index: Tensor, z: Tensor) -> None:
        """Count the codes that the global batch uses; before a restart, keep latents of it."""
        ones = torch.ones(index.numel(), dtype=torch.float64, device=index.device)
        counts = torch.zeros_like(self.used).index_add_(0, index.flatten(), ones)
        self.used += self._over_workers(counts)
        if self.patience and (self.draws.step + 1) % self.patience == 0:
            self.seen += self._over_workers(self._candidates(z))

    def _candidates(self, z: Tensor) -> Tensor:
        """For each code a latent [K, C] of the global batch, by the seed and the step; zeros where another micro-batch has it."""
        rows, own = z.movedim(1, -1).flatten(1, -2), len(z)
        rng = torch.Generator(device="cpu").manual_seed(key(self.draws.seed, self.draws.step, 0, RESTART))
        u = uniform(len(self.codebook), 2, rng=rng, dtype=torch.float64)
        row = (u[:, 0] * own * self.draws.parts).long() - own * self.draws.part
        place = (u[:, 1] * rows.shape[1]).long()
        mine = (row >= 0) & (row < own)
        found = rows[row.clamp(0, own - 1).to(z.device), place.to(z.device)]
        return torch.where(mine.to(z.device)[:, None], found, 0).to(self.seen)

    def _over_workers(self, x: Tensor) -> Tensor:
        """The sum of the workers' x."""
        trainer = trainer_of(self)
        return x if trainer is None or trainer.world_size == 1 else trainer.strategy.reduce(x, reduce_op="sum")  # type: ignore[return-value]

    def prior(self, n: int, rng: torch.Generator | None) -> Tensor:
        """Codes, each drawn uniformly."""
        u = uniform(n, *self.latents[1:], rng=rng)
        index = (u * len(self.codebook)).long().clamp(max=len(self.codebook) - 1).to(self.device)
        return F.embedding(index, self.codebook).movedim(-1, 1)
