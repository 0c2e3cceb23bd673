"""WGAN: the critic estimates the Wasserstein distance, kept Lipschitz by clipping its weights.

System: WGAN
Source: Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_modules.gan import losses
from lightning_modules.gan.adversarial import DISCRIMINATOR, AdversarialModel
from lightning_modules.optim import Optim, RMSProp


class WGAN(AdversarialModel):
    """A WGAN. Its discriminator is the paper's critic f: minus its loss is, up to its Lipschitz constant, a lower bound on W1.

    Args:
        generator, discriminator, latents, optim, critic_steps: as in `AdversarialModel`.
        clip: largest magnitude of each of the critic's weights, > 0.

    Raises:
        ValueError: `clip` is not positive.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        latents: int,
        *,
        optim: Optim = RMSProp(5e-5),
        critic_steps: int = 5,
        clip: float = 0.01,
    ) -> None:
        super().__init__(generator, discriminator, latents, optim=optim, critic_steps=critic_steps)
        if clip <= 0:
            raise ValueError(f"The critic's weights are clipped to {clip}; the bound must be positive.")
        self.clip = clip

    def discriminator_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """E f(fake) - E f(x)."""
        return {"minus_distance": losses.wasserstein(self.discriminator(x), self.discriminator(fake))}

    def generator_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """-E f(fake)."""
        return {"minus_score": -self.discriminator(fake).mean()}

    @torch.no_grad()
    def after_step(self, network: str) -> None:
        """Clip the critic's weights after each of its steps."""
        if network == DISCRIMINATOR:
            for p in self.discriminator.parameters():
                p.clamp_(-self.clip, self.clip)
