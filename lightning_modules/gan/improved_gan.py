"""The techniques of Improved GAN as switches, and instance noise.

Minibatch discrimination and virtual batch norm are parts of the nets (`nets.adversarial`).

Source: Salimans et al. 2016, arXiv:1606.03498, section 3; Arjovsky & Bottou 2017, arXiv:1701.04862, section 3 (instance noise).
Differs: without labels; the critic has no weight norm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from lightning_modules.gan import losses
from lightning_modules.gan.adversarial import CRITIC, GENERATOR
from lightning_modules.gan.gan import GAN, Objective
from lightning_modules.model import Batch
from lightning_modules.nets.adversarial import Critic


class History(nn.Module):
    """The mean [P] of weights over all steps so far, the first ones included."""

    def __init__(self, weights: list[nn.Parameter]) -> None:
        super().__init__()
        self.register_buffer("mean", parameters_to_vector(weights).detach().clone())
        self.register_buffer("count", torch.tensor(1.0))

    @torch.no_grad()
    def note(self, weights: list[nn.Parameter]) -> None:
        self.count += 1
        self.mean += (parameters_to_vector(weights) - self.mean) / self.count


class ImprovedGAN(GAN):
    """A GAN that is easier to train.

    Args:
        generator, critic, noise, turns, objective, lr, betas: as in `GAN`; the critic has `features`.
        matching: the generator matches the critic's mean features in place of deceiving it.
        history: weight of the distance of each player's weights to their mean over the past; 0: none.
        label: of real examples; below 1 smooths it.
        blur: deviation of noise added to all that the critic sees; 0: none.
        blur_until: steps over which it falls linearly to 0; 0: it stays.

    Raises:
        ValueError: `label` is not in (0.5, 1], or `blur` or `history` is negative.
    """

    def __init__(
        self,
        generator: nn.Module,
        critic: Critic,
        noise: int,
        *,
        turns: int = 1,
        objective: Objective = "non_saturating",
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        matching: bool = False,
        history: float = 0.0,
        label: float = 1.0,
        blur: float = 0.0,
        blur_until: int = 0,
    ) -> None:
        super().__init__(generator, critic, noise, turns=turns, objective=objective, lr=lr, betas=betas)
        if not 0.5 < label <= 1:
            raise ValueError(f"The label of real examples is {label}; it must be in (0.5, 1].")
        if blur < 0 or history < 0:
            raise ValueError(f"The noise is {blur} and the weight of the history {history}; neither may be negative.")
        self.matching, self.history, self.label = matching, history, label
        self.blur, self.blur_until = blur, blur_until
        players = (GENERATOR, CRITIC) if history else ()
        self.past = nn.ModuleDict({player: History(self.weights(player)) for player in players})

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        reference = self.critic.body.reference
        if reference is not None and self.trainer.global_step == 0 and batch_idx == 0:
            self.refer(batch["x"])

    @torch.no_grad()
    def refer(self, x: Tensor) -> None:
        """Take the critic's reference batch from the first examples of the first worker."""
        reference = self.critic.body.reference
        if len(x) < len(reference):
            raise ValueError(
                f"Virtual batch norm refers to {len(reference)} examples, but a worker's micro-batch has {len(x)}: "
                f"take a smaller reference or a larger batch."
            )
        reference.copy_(self.trainer.strategy.broadcast(x[: len(reference)].clone()))

    def blurred(self, x: Tensor) -> Tensor:
        """What the critic sees of examples [B, *D]."""
        if not self.blur:
            return x
        left = 1 - self.trainer.global_step / self.blur_until if self.blur_until else 1.0
        return x + self.blur * max(0.0, left) * self.draws.normal(*x.shape, device=x.device).to(x)

    def remembered(self, player: str) -> dict[str, Tensor]:
        """The term of historical averaging."""
        if not self.history:
            return {}
        gap = losses.historical(parameters_to_vector(self.weights(player)), self.past[player].mean)
        return {"history": self.history * gap}

    def critic_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        real, fake = self.critic(self.blurred(x)), self.critic(self.blurred(fake))
        return {
            "real": losses.real_loss(real, self.label),
            "fake": losses.fake_loss(fake),
            **self.remembered(CRITIC),
        }

    def generator_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        fake = self.blurred(fake)
        if self.matching:
            with torch.no_grad():
                real = self.critic.features(self.blurred(x))
            terms = {"matching": losses.feature_matching(real, self.critic.features(fake))}
        else:
            terms = {"deceive": self.deceive(self.critic(fake))}
        return terms | self.remembered(GENERATOR)

    def stepped(self, player: str) -> None:
        if self.history:
            self.past[player].note(self.weights(player))
