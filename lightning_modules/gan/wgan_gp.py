"""WGAN-GP: the critic is kept Lipschitz by a penalty on its gradient between real and generated examples.

Source: Gulrajani et al. 2017, arXiv:1704.00028, algorithm 1.
Differs: the generator's batch is as large as the critic's.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from lightning_modules import optim
from lightning_modules.gan import losses
from lightning_modules.gan.adversarial import Game


class WGANGP(Game):
    """Minus the critic's first loss estimates W1. The critic must not mix the examples of a batch: no batch norm.

    Args:
        generator, critic, noise, turns: as in `Game`.
        penalty: weight of the penalty, lambda in the paper.
        lr, betas: of both players' Adam.
        until: steps over which the learning rate falls linearly to 0; 0: it stays.
    """

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        noise: int,
        *,
        turns: int = 5,
        penalty: float = 10.0,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.0, 0.9),
        until: int = 0,
    ) -> None:
        super().__init__(generator, critic, noise, turns=turns)
        self.penalty, self.lr, self.betas, self.until = penalty, lr, betas, until

    def critic_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        even = self.draws.uniform(len(x), device=x.device).to(x)
        return {
            "minus_distance": losses.wasserstein(self.critic(x), self.critic(fake)),
            "penalty": self.penalty * losses.gradient_penalty(self.critic, x, fake, even),
        }

    def generator_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        return {"worth": -self.critic(fake).mean()}

    def configure_optimizers(self) -> Any:
        both = [optim.adam(net, self.lr, betas=self.betas) for net in (self.critic, self.generator)]
        for one in both:
            if self.until:
                one["lr_scheduler"]["scheduler"] = LambdaLR(one["optimizer"], self._left)
        return both

    def _left(self, step: int) -> float:
        """Share of the learning rate at this step of the generator."""
        return max(0.0, 1 - step / self.until)
