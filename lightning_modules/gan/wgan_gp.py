"""WGAN-GP: the critic is kept Lipschitz by a penalty on its gradient between real and generated examples.

System: WGAN-GP
Source: Gulrajani et al. 2017, arXiv:1704.00028, algorithm 1.
Differs: the generator's batch is as large as the critic's.
"""

from __future__ import annotations

from torch import Tensor, nn

from lightning_modules.gan import losses
from lightning_modules.gan.adversarial import AdversarialModel
from lightning_modules.optim import Adam, Optim


class WGANGP(AdversarialModel):
    """A WGAN-GP. Its discriminator is the paper's critic f: minus its first loss estimates W1.

    The critic must not mix the examples of a batch: no batch norm.

    Args:
        generator, discriminator, latents, optim, critic_steps: as in `AdversarialModel`.
        penalty: weight of the penalty, lambda in the paper.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        latents: int,
        *,
        optim: Optim = Adam(1e-4, betas=(0.0, 0.9)),
        critic_steps: int = 5,
        penalty: float = 10.0,
    ) -> None:
        super().__init__(generator, discriminator, latents, optim=optim, critic_steps=critic_steps)
        self.penalty = penalty

    def discriminator_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """E f(fake) - E f(x), and the weighted penalty."""
        uniform = self.draws.uniform(len(x), device=x.device).to(x)
        return {
            "minus_distance": losses.wasserstein(self.discriminator(x), self.discriminator(fake)),
            "penalty": self.penalty * losses.gradient_penalty(self.discriminator, x, fake, uniform),
        }

    def generator_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """-E f(fake)."""
        return {"minus_score": -self.discriminator(fake).mean()}
