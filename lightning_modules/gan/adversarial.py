"""Adversarial training: a generator and a discriminator, each with an optimiser of its own.

Source: Goodfellow et al. 2014, arXiv:1406.2661, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from lightning_modules import draws
from lightning_modules.compat import uncounted
from lightning_modules.conditions import Cond, without_labels
from lightning_modules.model import Batch, Generative, evaluating
from lightning_modules.optim import Optim

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
"""The two networks, by name."""


class AdversarialModel(Generative):
    """A generator and a discriminator. One step is `critic_steps` steps of the discriminator, then one of the generator.

    Each step of the discriminator has a global batch of its own; the batch that the data module gives holds the examples of all of
    them. Steps of `Fit.steps`, of the logs, of EMA and of the checkpoints are the generator's. Each network's gradient is
    averaged over workers and micro-batches before its optimiser steps, so the result is the same however the batch is cut
    (except for networks and losses that mix the examples of a batch: batch norm, minibatch discrimination and feature matching
    see one micro-batch on one worker).

    Args:
        generator: latents [B, L] -> examples [B, *D].
        discriminator: examples [B, *D] -> [B].
        latents: L, standard normal.
        optim: of each of the two networks.
        critic_steps: steps of the discriminator for each of the generator, >= 1.

    Raises:
        NotFinite: as in `Generative`, for each network's loss and gradient.
        ValueError: `critic_steps` is below 1.
    """

    averaged = f"{GENERATOR}."
    accumulate: int = 1
    """Micro-batches of a global batch on each worker."""
    grad_clip: float = 0.0
    """Largest norm of each network's gradient, 0 for any."""

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module, latents: int, *, optim: Optim, critic_steps: int = 1
    ) -> None:
        super().__init__()
        if critic_steps < 1:
            raise ValueError(
                f"The discriminator takes {critic_steps} steps for each of the generator; it must take at least 1."
            )
        self.generator, self.discriminator = generator, discriminator
        self.latents, self.optim = latents, optim
        self.critic_steps = self.batches_per_step = critic_steps
        self.automatic_optimization = False
        self._network = DISCRIMINATOR
        self._batches: list[Batch] = []

    # ---- what a method defines

    def discriminator_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Named scalars [] of real and generated examples [B, *D]; the discriminator minimises their sum."""
        raise NotImplementedError

    def generator_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Named scalars [] of the discriminator's last real examples and new generated ones [B, *D]; the generator minimises their sum."""
        raise NotImplementedError

    def fakes(self, batch: Batch) -> Tensor:
        """Generated examples [B, *D] for a batch of B real ones; the generator learns through them.

        Here the generator's outputs for standard normal latents. A model whose generator has another input, such as the batch
        itself in an adversarial autoencoder, overrides this.
        """
        x = batch["x"]
        return self.generator(self.draws.normal(len(x), self.latents, device=x.device).to(x))

    def after_step(self, network: str) -> None:
        """Do what follows each step of a network's optimiser; here nothing."""

    # ---- training

    def prepare(self, seed: int, *, accumulate: int = 1, grad_clip: float = 0.0) -> None:
        """As in `Generative`; the model cuts batches and clips gradients itself, for Lightning does so for one optimiser only."""
        super().prepare(seed)
        self.accumulate, self.grad_clip = accumulate, grad_clip

    def configure_optimizers(self) -> Any:
        """The discriminator's optimiser and the generator's, each with its schedule."""
        return [self.optim.of(net) for net in (self.discriminator, self.generator)]

    @property
    def micro_batches(self) -> int:
        return self.accumulate

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Do nothing: `_backward` sets the random numbers, for each network's gradient."""

    def training_step(self, batch: Batch, index: int) -> None:
        count, micro = divmod(index % (self.critic_steps * self.accumulate), self.accumulate)
        self._backward(DISCRIMINATOR, batch, count, micro)
        self._batches.append(batch)
        if micro + 1 < self.accumulate:
            return
        self._step(DISCRIMINATOR)
        batches, self._batches = self._batches, []
        if count + 1 == self.critic_steps:
            for i, last in enumerate(batches):
                self._backward(GENERATOR, last, self.critic_steps, i)
            self._step(GENERATOR)

    def _backward(self, network: str, batch: Batch, count: int, micro: int) -> None:
        """Add a micro-batch's share to the gradient of a network's weights, and of no others."""
        self._network = network
        self.set_draws(self.trainer.global_step * (self.critic_steps + 1) + count, micro)
        x = batch["x"]
        with torch.set_grad_enabled(network == GENERATOR):
            fake = self.fakes(batch)
        if x.shape != fake.shape:
            name, made, given = type(self).__name__, tuple(fake.shape[1:]), tuple(x.shape[1:])
            raise ValueError(f"{name} generates examples of shape {made}, and was given {given}.")
        terms = self.discriminator_losses(x, fake) if network == DISCRIMINATOR else self.generator_losses(x, fake)
        with self._without_ddp():
            self.manual_backward(self.total(terms) / self.accumulate, inputs=self.weights(network))

    def weights(self, network: str) -> list[nn.Parameter]:
        """The weights that a network's optimiser moves."""
        return list((self.generator if network == GENERATOR else self.discriminator).parameters())

    @contextmanager
    def _without_ddp(self) -> Iterator[None]:
        """Inside, DDP leaves gradients alone: it would wait for those of the other network."""
        block = getattr(self.trainer.strategy, "block_backward_sync", None)
        if block is None:
            yield
        else:
            with block():
                yield

    def _step(self, network: str) -> None:
        """Average the network's gradient over the workers and take a step of its optimiser; schedules step with the generator."""
        self._network = network
        self._average([p.grad for p in self.weights(network) if p.grad is not None])
        discriminator, generator = self.optimizers()  # type: ignore[misc]
        optimizer = generator if network == GENERATOR else uncounted(discriminator)
        optimizer.step()
        optimizer.zero_grad()
        self.after_step(network)
        if network == GENERATOR:
            for schedule in self._schedules():
                schedule.step()

    def _schedules(self) -> list[Any]:
        found = self.lr_schedulers()
        return found if isinstance(found, list) else [found] if found else []

    def _average(self, gradients: list[Tensor]) -> None:
        """Replace the gradients by their means over the workers, in one message."""
        if self.trainer.world_size == 1:
            return
        flat = torch.cat([g.flatten() for g in gradients])
        flat = self.trainer.strategy.reduce(flat, reduce_op="mean")
        for g, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            g.copy_(mean.view_as(g))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        if self.grad_clip:
            clip_grad_norm_(self.weights(self._network), self.grad_clip)

    def log_step(self, terms: dict[str, Tensor], norm: float) -> None:
        """Log the loss terms and the norm of the gradient of one network's step; 'loss' is the generator's."""
        named = {f"loss/{self._network}_{k}": v for k, v in terms.items()}
        total = {"loss": sum(terms.values()), **self.logged()} if self._network == GENERATOR else {}
        self.log_dict({**total, **named, f"grad_norm/{self._network}": norm})

    # ---- use

    @torch.no_grad()
    def sample(
        self, n: int, cond: Tensor | Cond | None = None, *, rng: torch.Generator | None = None, batch: int = 1024
    ) -> Tensor:
        """Samples [n, *D], on the device of the model.

        Args:
            batch: samples drawn at once.

        Raises:
            ValueError: labels are given.
        """
        without_labels(cond)
        z = draws.normal(n, self.latents, rng=rng).to(self.device, self.dtype)
        with evaluating(self):
            return torch.cat([self.generator(part) for part in z.split(batch)])
