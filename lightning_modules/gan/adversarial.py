"""A game of two players: a generator and a critic, each with an optimiser of its own.

Source: Goodfellow et al. 2014, arXiv:1406.2661, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from lightning_modules.model import Batch, Generative, evaluating

GENERATOR, CRITIC = "generator", "critic"


class Game(Generative):
    """One step is `turns` steps of the critic, each on a global batch of its own, and then one of the generator.

    A step of `Fit.steps`, of the logs, of EMA and of the checkpoints is the generator's. The data's global batch holds the
    examples of all turns together. Each player's gradient is averaged over workers and micro-batches before its optimiser
    steps, so that the game is the same however the batch is cut (up to nets and losses that mix the examples of a batch:
    batch norm, minibatch discrimination and feature matching see one micro-batch on one worker).

    Args:
        generator: noise [B, noise] -> examples [B, *D].
        critic: examples -> [B].
        noise: numbers that the generator starts from, standard normal.
        turns: steps of the critic for each of the generator, >= 1.

    Raises:
        NotFinite: as in `Generative`, for each player's loss and gradient.
        ValueError: `turns` is below 1.
    """

    averaged = f"{GENERATOR}."
    accumulate: int = 1
    """Micro-batches of a turn on each worker; whoever trains the model sets it before the fit."""
    grad_clip: float = 0.0
    """Largest norm of each player's gradient, 0 for any; likewise."""

    def __init__(self, generator: nn.Module, critic: nn.Module, noise: int, *, turns: int = 1) -> None:
        super().__init__()
        if turns < 1:
            raise ValueError(f"The critic takes {turns} steps for each of the generator; it must take at least 1.")
        self.generator, self.critic = generator, critic
        self.noise, self.turns = noise, turns
        self.automatic_optimization = False
        self._player = CRITIC
        self._seen: list[Batch] = []

    def critic_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Named scalars of real and generated examples [B, *D]; the critic minimises their sum."""
        raise NotImplementedError

    def generator_losses(self, x: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Named scalars of the critic's last real examples and new generated ones; the generator minimises their sum."""
        raise NotImplementedError

    def stepped(self, player: str) -> None:
        """Called after each step of a player's optimiser."""

    @property
    def micro_batches(self) -> int:
        return self.accumulate

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Random numbers are dealt for each turn."""

    def training_step(self, batch: Batch, index: int) -> None:
        turn, micro = divmod(index % (self.turns * self.accumulate), self.accumulate)
        self._learn(CRITIC, batch, turn, micro)
        self._seen.append(batch)
        if micro + 1 < self.accumulate:
            return
        self._step(CRITIC)
        seen, self._seen = self._seen, []
        if turn + 1 == self.turns:
            for i, one in enumerate(seen):
                self._learn(GENERATOR, one, self.turns, i)
            self._step(GENERATOR)

    def _learn(self, player: str, batch: Batch, turn: int, micro: int) -> None:
        """Add a micro-batch's share to the gradient of a player's weights, and of no others."""
        self._player = player
        self.deal(self.trainer.global_step * (self.turns + 1) + turn, micro)
        x = batch["x"]
        with torch.set_grad_enabled(player == GENERATOR):
            fake = self.generator(self.draws.normal(len(x), self.noise, device=x.device).to(x))
        if x.shape != fake.shape:
            name, made, given = type(self).__name__, tuple(fake.shape[1:]), tuple(x.shape[1:])
            raise ValueError(f"{name} generates examples of shape {made}, and was given {given}.")
        terms = self.critic_losses(x, fake) if player == CRITIC else self.generator_losses(x, fake)
        with self._apart():
            self.manual_backward(self.total(terms) / self.accumulate, inputs=self.weights(player))

    def weights(self, player: str) -> list[nn.Parameter]:
        """What the player's optimiser moves."""
        return list((self.generator if player == GENERATOR else self.critic).parameters())

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Inside, DDP leaves gradients alone: it would wait for those of the other player."""
        block = getattr(self.trainer.strategy, "block_backward_sync", None)
        if block is None:
            yield
        else:
            with block():
                yield

    def _step(self, player: str) -> None:
        self._player = player
        weights = self.weights(player)
        self._average([p.grad for p in weights if p.grad is not None])
        optimizer = self._optimizer(player)
        optimizer.step()
        optimizer.zero_grad()
        self.stepped(player)
        if player == GENERATOR:
            for schedule in self._schedules():
                schedule.step()

    def _optimizer(self, player: str) -> Any:
        """The player's optimiser; the critic's steps do not count as the trainer's."""
        critic, generator = self.optimizers()  # type: ignore[misc]
        if player == GENERATOR:
            return generator
        critic._on_before_step = critic._on_after_step = lambda: None
        return critic

    def _schedules(self) -> list[Any]:
        found = self.lr_schedulers()
        return found if isinstance(found, list) else [found] if found else []

    def _average(self, gradients: list[Tensor]) -> None:
        """Over the workers, as one message."""
        if self.trainer.world_size == 1:
            return
        flat = torch.cat([g.flatten() for g in gradients])
        flat = self.trainer.strategy.reduce(flat, reduce_op="mean")
        for g, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            g.copy_(mean.view_as(g))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        if self.grad_clip:
            clip_grad_norm_(self.weights(self._player), self.grad_clip)

    def tell(self, terms: dict[str, Tensor], norm: float) -> None:
        named = {f"loss/{self._player}_{k}": v for k, v in terms.items()}
        total = {"loss": sum(terms.values())} if self._player == GENERATOR else {}
        self.log_dict({**total, **named, f"grad_norm/{self._player}": norm})

    @torch.no_grad()
    def sample(
        self, n: int, cond: Tensor | None = None, *, rng: torch.Generator | None = None, batch: int = 1024
    ) -> Tensor:
        """Draws [n, *D], on the device of the model.

        Args:
            batch: draws made at once.

        Raises:
            ValueError: labels are given.
        """
        if cond is not None:
            raise ValueError("This model was trained without labels and cannot be sampled given any.")
        z = torch.randn(n, self.noise, generator=rng, device=rng.device if rng else "cpu").to(self.device, self.dtype)
        with evaluating(self):
            return torch.cat([self.generator(part) for part in z.split(batch)])
