"""WGAN: the critic estimates the Wasserstein distance, kept Lipschitz by clipping its weights.

Source: Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.gan import losses
from lightning_modules.gan.adversarial import CRITIC, Game


class WGAN(Game):
    """Minus the critic's loss is, up to the clipped critic's Lipschitz constant, a lower bound on W1.

    Args:
        generator, critic, noise, turns: as in `Game`.
        clip: largest magnitude of each of the critic's weights, > 0.
        lr: of both players' RMSProp.

    Raises:
        ValueError: `clip` is not positive.
    """

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        noise: int,
        *,
        turns: int = 5,
        clip: float = 0.01,
        lr: float = 5e-5,
    ) -> None:
        super().__init__(generator, critic, noise, turns=turns)
        if clip <= 0:
            raise ValueError(f"The critic's weights are clipped to {clip}; the bound must be positive.")
        self.clip, self.lr = clip, lr

    def critic_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return {"minus_distance": losses.wasserstein(self.critic(x), self.critic(fake))}

    def generator_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return {"worth": -self.critic(fake).mean()}

    @torch.no_grad()
    def stepped(self, player: str) -> None:
        if player == CRITIC:
            for p in self.critic.parameters():
                p.clamp_(-self.clip, self.clip)

    def configure_optimizers(self) -> Any:
        return [torch.optim.RMSprop(net.parameters(), self.lr) for net in (self.critic, self.generator)]
