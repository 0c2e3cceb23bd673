"""GAN: a discriminator tells real from generated examples, and the generator learns to be taken for real.

System: GAN
Source: Goodfellow et al. 2014, arXiv:1406.2661, algorithm 1 and section 3.
Differs: Adam in place of momentum; the latents are normal.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from lightning_modules.gan import losses
from lightning_modules.gan.adversarial import AdversarialModel
from lightning_modules.optim import Adam, Optim

Objective = Literal["non_saturating", "minimax"]
GENERATOR_LOSSES = {"non_saturating": losses.non_saturating, "minimax": losses.minimax}


class GAN(AdversarialModel):
    """A GAN. The discriminator's outputs are logits of 'real'.

    Args:
        generator, discriminator, latents, optim, critic_steps: as in `AdversarialModel`.
        objective: the generator's: 'non_saturating' or 'minimax'.

    Raises:
        ValueError: there is no such objective.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        latents: int,
        *,
        optim: Optim = Adam(2e-4, betas=(0.5, 0.999)),
        critic_steps: int = 1,
        objective: Objective = "non_saturating",
    ) -> None:
        super().__init__(generator, discriminator, latents, optim=optim, critic_steps=critic_steps)
        if objective not in GENERATOR_LOSSES:
            raise ValueError(f"There is no objective '{objective}'; allowed: {', '.join(GENERATOR_LOSSES)}.")
        self.adversarial_loss = GENERATOR_LOSSES[objective]

    def discriminator_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """-E log D(x) and -E log(1 - D(fake))."""
        return {"real": losses.real_loss(self.discriminator(x)), "fake": losses.fake_loss(self.discriminator(fake))}

    def generator_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """The objective, of generated examples alone."""
        return {"adversarial": self.adversarial_loss(self.discriminator(fake))}
