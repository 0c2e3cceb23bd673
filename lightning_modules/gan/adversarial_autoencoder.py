"""A first stage that also learns from a discriminator of its reconstructions.

System: Adversarial autoencoder of latent diffusion
Source: Esser et al. 2021, arXiv:2012.09841, eq. 6 and 7; Rombach et al. 2022, arXiv:2112.10752, appendix G.
Differs: the start counts steps of the autoencoder; each micro-batch of a step has a ratio of gradients of its own, workers share one.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lightning_modules.conditions import Cond
from lightning_modules.draws import Draws
from lightning_modules.gan import losses
from lightning_modules.gan.adversarial import AdversarialModel
from lightning_modules.model import Batch
from lightning_modules.optim import Adam, Optim

LARGEST = 1e4
"""Of the ratio of gradients."""


def ratio(distance: Tensor, adversarial: Tensor) -> Tensor:
    """The ratio [] of the norms of two gradients of one layer's weights, of the distance and of the adversarial loss, at most `LARGEST`.

    Source: Esser et al. 2021, eq. 7.
    """
    return (distance.norm() / (adversarial.norm() + 1e-4)).clamp(0, LARGEST)


class Reconstructs(Protocol):
    """What an autoencoder must have to be judged, such as a `vae.first_stage.FirstStage`; it is a `Generative`, too."""

    shape: tuple[int, ...]
    draws: Draws

    @property
    def last_weight(self) -> Tensor:
        """The weights of the decoder's last layer."""
        ...

    def reconstruct(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The reconstructions [B, *D] of x [B, *D], and the losses [] of the latents by name."""
        ...

    def distances(self, x: Tensor, other: Tensor) -> dict[str, Tensor]:
        """The distances [] of examples to their reconstructions, by name."""
        ...


class AdversarialAutoencoder(AdversarialModel):
    """An autoencoder as generator, and a discriminator of its reconstructions, with hinge losses.

    Args:
        autoencoder: the first stage; its own losses count from the first step on.
        discriminator: images [B, *D] -> logits [B, *], such as those of patches.
        start: the autoencoder's step from which the discriminator trains and counts.
        weight: of the adversarial loss, times the ratio of the gradients of the decoder's last layer.
        optim: of each of the two networks.
    """

    generator: Any

    def __init__(
        self,
        autoencoder: Reconstructs,
        discriminator: nn.Module,
        *,
        start: int = 50_000,
        weight: float = 0.5,
        optim: Optim = Adam(betas=(0.5, 0.9)),
    ) -> None:
        super().__init__(autoencoder, discriminator, 0, optim=optim)  # type: ignore[arg-type]  # it is a module
        self.shape = autoencoder.shape
        self.start_step, self.weight = start, weight
        self._terms_made: dict[str, Tensor] = {}

    def fakes(self, batch: Batch) -> Tensor:
        """The reconstructions [B, *D] of the batch, with the same random numbers for both networks of a step."""
        own = self.draws
        self.generator.draws = Draws(own.seed, self.trainer.global_step, own.part, own.parts)
        made, self._terms_made = self.generator.reconstruct(self.generator.fitting(batch["x"]))
        return made

    def discriminator_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """The hinge loss of examples and reconstructions; 0 before the start, so that nothing moves."""
        return {"hinge": self.started * losses.hinge(self.discriminator(x), self.discriminator(fake))}

    def generator_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """The autoencoder's own losses, and from the start on the adversarial one."""
        distances, terms = self.generator.distances(x, fake), self._terms_made
        self._terms_made = {}
        found = distances | terms
        if not self.started:
            return found
        adversarial = -self.discriminator(fake).mean()
        by_layer = [self._of_last(loss) for loss in (sum(distances.values()), adversarial)]
        return found | {"adversarial": self.weight * ratio(*by_layer) * adversarial}

    @property
    def started(self) -> float:
        """1 once the discriminator trains, else 0."""
        return float(self.trainer.global_step >= self.start_step)

    def _of_last(self, loss: Any) -> Tensor:
        """The gradient of the decoder's last weights, the mean over the workers."""
        (found,) = torch.autograd.grad(loss, self.generator.last_weight, retain_graph=True)
        return found if self.trainer.world_size == 1 else self.trainer.strategy.reduce(found, reduce_op="mean")  # type: ignore[return-value]

    def logged(self) -> dict[str, float]:
        """Those of the autoencoder."""
        return self.generator.logged()

    @torch.no_grad()
    def sample(
        self, n: int, cond: Tensor | Cond | None = None, *, rng: torch.Generator | None = None, batch: int = 1024
    ) -> Tensor:
        """As the autoencoder does."""
        return self.generator.sample(n, cond, rng=rng)

    def pictures(self, data: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """Those of the autoencoder."""
        return self.generator.pictures(data, rng)
