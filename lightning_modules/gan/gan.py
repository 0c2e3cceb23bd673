"""GAN: a critic tells real from generated, and the generator learns to be taken for real.

Source: Goodfellow et al. 2014, arXiv:1406.2661, algorithm 1 and section 3.
Differs: Adam in place of momentum; the noise is normal.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from lightning_modules import optim
from lightning_modules.gan import losses
from lightning_modules.gan.adversarial import Game

Objective = Literal["non_saturating", "minimax"]
GENERATOR_LOSSES = {"non_saturating": losses.non_saturating, "minimax": losses.minimax}


class GAN(Game):
    """The critic's outputs are logits of 'real'.

    Args:
        generator, critic, noise, turns: as in `Game`.
        objective: the generator's: 'non_saturating' or 'minimax'.
        lr, betas: of both players' Adam.

    Raises:
        ValueError: there is no such objective.
    """

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        noise: int,
        *,
        turns: int = 1,
        objective: Objective = "non_saturating",
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
    ) -> None:
        super().__init__(generator, critic, noise, turns=turns)
        if objective not in GENERATOR_LOSSES:
            raise ValueError(f"There is no objective '{objective}'; allowed: {', '.join(GENERATOR_LOSSES)}.")
        self.deceive = GENERATOR_LOSSES[objective]
        self.lr, self.betas = lr, betas

    def critic_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return {"real": losses.real_loss(self.critic(x)), "fake": losses.fake_loss(self.critic(fake))}

    def generator_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return {"deceive": self.deceive(self.critic(fake))}

    def configure_optimizers(self) -> Any:
        return [optim.adam(net, self.lr, betas=self.betas) for net in (self.critic, self.generator)]
