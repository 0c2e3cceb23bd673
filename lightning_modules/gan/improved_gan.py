"""Improved GAN: the paper's techniques as switches, and instance noise.

Minibatch discrimination and virtual batch norm are parts of the networks (`nets.adversarial`).

System: Improved GAN
Source: Salimans et al. 2016, arXiv:1606.03498, section 3; Arjovsky & Bottou 2017, arXiv:1701.04862, section 3 (instance noise).
Differs: without labels; the discriminator has no weight norm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from lightning_modules.gan import losses
from lightning_modules.gan.adversarial import DISCRIMINATOR, GENERATOR
from lightning_modules.gan.gan import GAN, Objective
from lightning_modules.model import Batch
from lightning_modules.nets.adversarial import Discriminator
from lightning_modules.optim import Adam, Optim


class WeightHistory(nn.Module):
    """The mean [P] of a network's P weights over all steps so far, the first weights included."""

    def __init__(self, weights: list[nn.Parameter]) -> None:
        super().__init__()
        self.register_buffer("mean", parameters_to_vector(weights).detach().clone())
        self.register_buffer("count", torch.tensor(1.0))

    @torch.no_grad()
    def add(self, weights: list[nn.Parameter]) -> None:
        """Move the mean to include these weights."""
        self.count += 1
        self.mean += (parameters_to_vector(weights) - self.mean) / self.count


class ImprovedGAN(GAN):
    """A GAN that is easier to train.

    Args:
        generator, discriminator, latents, optim, critic_steps, objective: as in `GAN`; the discriminator has `features`.
        feature_matching: the generator matches the discriminator's mean features in place of minimising `objective`.
        history: weight of the distance of each network's weights to their mean over the past; 0: none.
        real_label: of real examples; below 1 smooths it.
        noise_std: standard deviation of the noise added to all inputs of the discriminator; 0: none.
        noise_steps: steps over which it falls linearly to 0; 0: it stays.

    Raises:
        ValueError: `real_label` is not in (0.5, 1], or `noise_std` or `history` is negative.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: Discriminator,
        latents: int,
        *,
        optim: Optim = Adam(2e-4, betas=(0.5, 0.999)),
        critic_steps: int = 1,
        objective: Objective = "non_saturating",
        feature_matching: bool = False,
        history: float = 0.0,
        real_label: float = 1.0,
        noise_std: float = 0.0,
        noise_steps: int = 0,
    ) -> None:
        super().__init__(generator, discriminator, latents, optim=optim, critic_steps=critic_steps, objective=objective)
        if not 0.5 < real_label <= 1:
            raise ValueError(f"The label of real examples is {real_label}; it must be in (0.5, 1].")
        if noise_std < 0 or history < 0:
            raise ValueError(
                f"The noise is {noise_std} and the weight of the history {history}; neither may be negative."
            )
        self.feature_matching, self.history, self.real_label = feature_matching, history, real_label
        self.noise_std, self.noise_steps = noise_std, noise_steps
        networks = (GENERATOR, DISCRIMINATOR) if history else ()
        self.past = nn.ModuleDict({network: WeightHistory(self.weights(network)) for network in networks})

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        reference = self.discriminator.body.reference
        if reference is not None and self.trainer.global_step == 0 and batch_idx == 0:
            self.set_reference(batch["x"])

    @torch.no_grad()
    def set_reference(self, x: Tensor) -> None:
        """Fill the discriminator's reference batch with the first examples of x [B, *D] on the first worker.

        Raises:
            ValueError: x has fewer examples than the reference batch.
        """
        reference = self.discriminator.body.reference
        if len(x) < len(reference):
            raise ValueError(
                f"Virtual batch norm refers to {len(reference)} examples, but a worker's micro-batch has {len(x)}: "
                f"take a smaller reference or a larger batch."
            )
        reference.copy_(self.trainer.strategy.broadcast(x[: len(reference)].clone()))

    def with_noise(self, x: Tensor) -> Tensor:
        """Examples [B, *D] with instance noise, as the discriminator takes them."""
        if not self.noise_std:
            return x
        left = 1 - self.trainer.global_step / self.noise_steps if self.noise_steps else 1.0
        return x + self.noise_std * max(0.0, left) * self.draws.normal(*x.shape, device=x.device).to(x)

    def history_loss(self, network: str) -> dict[str, Tensor]:
        """The term [] of historical averaging, by name; none where it is off."""
        if not self.history:
            return {}
        gap = losses.historical(parameters_to_vector(self.weights(network)), self.past[network].mean)
        return {"history": self.history * gap}

    def discriminator_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """A GAN's losses, with smoothed labels and noise, and the history's."""
        real, fake = self.discriminator(self.with_noise(x)), self.discriminator(self.with_noise(fake))
        return {
            "real": losses.real_loss(real, self.real_label),
            "fake": losses.fake_loss(fake),
            **self.history_loss(DISCRIMINATOR),
        }

    def generator_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Feature matching or the GAN's objective, and the history's."""
        fake = self.with_noise(fake)
        if self.feature_matching:
            with torch.no_grad():
                real = self.discriminator.features(self.with_noise(x))
            terms = {"feature_matching": losses.feature_matching(real, self.discriminator.features(fake))}
        else:
            terms = {"adversarial": self.adversarial_loss(self.discriminator(fake))}
        return terms | self.history_loss(GENERATOR)

    def after_step(self, network: str) -> None:
        """Add the new weights to the history."""
        if self.history:
            self.past[network].add(self.weights(network))
