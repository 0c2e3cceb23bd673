"""The base class of all generative models, and the protocols of what they can do: sample, score, show pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import lightning as L
import torch
from torch import Tensor

from lightning_modules.compat import norms, scale_
from lightning_modules.conditions import Cond
from lightning_modules.draws import Draws, key, reseed
from lightning_modules.dropout import Dropout
from lightning_modules.optim import Adam, Optim

Batch = dict[str, Tensor]
"""One batch of any data set: 'x' [B, *D], and where there are classes 'label' [B], long."""


@runtime_checkable
class Samples(Protocol):
    """A model that can be sampled: [n, *D], with conditions (labels [n], or more in a `Cond`) or without."""

    def sample(self, n: int, cond: Tensor | Cond | None = None, *, rng: torch.Generator | None = None) -> Tensor:
        """n samples [n, *D]; the same generator gives the same ones."""
        ...


@runtime_checkable
class Density(Protocol):
    """A model with a log density: [B] nats. Where it is a bound, the model's docstring states that."""

    def log_prob(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Log density [B], in nats, of x [B, *D]."""
        ...


@runtime_checkable
class Shows(Protocol):
    """A model with more pictures than samples: the examples [n, *D] of each picture by its name. 64 of them fill a square in
    rows of eight. `data` is the data module, set up for its held-out examples."""

    def pictures(self, data: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """The examples [n, *D] of each picture, by its name."""
        ...


class NotFinite(FloatingPointError):
    """A loss, gradient or weight is NaN or infinite; the message names the step and the loss term."""


class Generative(L.LightningModule):
    """A model that is trained by minimising the sum of its `losses`.

    Adversarial models (`gan.adversarial`) override `training_step` and pass their losses through `total`; all others override
    `losses`. Random numbers in training come from `self.draws`, those of `dropout.Dropout` too; torch's own generator,
    which layers such as `nn.Dropout` use, is seeded again before every micro-batch on every worker. So a resumed run continues
    with the same numbers, and none of this is saved.

    Raises:
        NotFinite: a loss or a gradient is NaN or infinite, before the optimiser would step; on a GPU, where each check
            waits for the device, only at the steps that are logged; or a weight is, before it would be saved.
    """

    optim: Optim = Adam()
    """The optimiser of all weights and its schedule."""
    seed: int = 0
    """Of the run, >= 0."""
    shape: tuple[int, ...] = ()
    """Of an example."""
    averaged: str = ""
    """Prefix of the names of the weights that `ema.EMA` averages; '' averages all."""
    batches_per_step: int = 1
    """Global batches of data that one step takes; an adversarial model takes several where its discriminator steps more often."""

    def __init__(self) -> None:
        super().__init__()
        self.draws = Draws()
        self._terms: dict[str, Tensor] = {}
        self.logged_names: frozenset[str] | None = None
        """Names of the metrics of the last step that was logged."""
        self._norm: float | None = None  # of the gradient of this step, where it was computed

    def prepare(self, seed: int, *, accumulate: int = 1, grad_clip: float = 0.0) -> None:
        """Set what the model must know of its training before the fit.

        Args:
            seed: of the run, >= 0.
            accumulate: micro-batches of a global batch on each worker.
            grad_clip: largest norm of the gradient, 0 for any. Both matter only to a model that steps its optimisers
                itself (`automatic_optimization` is False); for all others Lightning's trainer is given them.
        """
        self.seed = seed

    def set_rate(self, lr: float | None, warmup: int | None) -> None:
        """Replace the learning rate of all optimisers, and the steps of its rise; what is None stays as the model has it."""
        given = {"lr": lr, "warmup": warmup}
        self.optim = replace(self.optim, **{k: v for k, v in given.items() if v is not None})  # type: ignore[type-var]

    def configure_optimizers(self) -> Any:
        """The optimiser and its schedule, as Lightning expects them."""
        return self.optim.of(self)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalars []; their sum is minimised."""
        raise NotImplementedError(f"{type(self).__name__} has neither losses nor a training_step of its own")

    def of_shape(self, x: Tensor) -> Tensor:
        """x [B, *D], unchanged, after a check that D is the model's shape.

        Raises:
            ValueError: it is not.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"{type(self).__name__} takes examples of shape {self.shape}, not {tuple(x.shape[1:])}.")
        return x

    def fitting(self, x: Tensor, levels: int = 0) -> Tensor:
        """x [B, *D], unchanged, after a check that the model can use it.

        Args:
            levels: of grey; unless 0, x must be in [-1, 1].

        Raises:
            ValueError: as in `of_shape`; on a CPU, where a check waits for nothing, also if x is not finite or not in the range.
        """
        name = type(self).__name__
        if self.of_shape(x).device.type == "cpu" and len(x):
            least, most = (found.item() for found in x.aminmax())
            if not math.isfinite(least) or not math.isfinite(most):
                raise ValueError(f"{name} was given numbers that are NaN or infinite.")
            if levels and max(-least, most) > 1 + 1e-4:
                raise ValueError(f"{name} takes grey levels in [-1, 1], and was given {least:g} to {most:g}.")
        return x

    def training_step(self, batch: Batch, index: int) -> Tensor:
        if not len(batch["x"]):
            raise ValueError(f"{type(self).__name__} was given an empty batch, of which there is no mean loss.")
        return self.total(self.losses(batch))

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The sum [] of `terms`. Their means over the micro-batches of a step are logged, and checked to be finite."""
        share = 1 / self.micro_batches
        for name, value in terms.items():
            self._terms[name] = self._terms.get(name, 0.0) + value.detach() * share
        return torch.stack(list(terms.values())).sum()

    @property
    def micro_batches(self) -> int:
        """Micro-batches that make up one global batch on each worker."""
        return self.trainer.accumulate_grad_batches

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.set_draws(self.trainer.global_step, batch_idx % self.micro_batches)

    def set_draws(self, count: int, micro: int) -> None:
        """Set the random numbers of micro-batch `micro` of the `count`-th gradient of the run."""
        part = micro * self.trainer.world_size + self.trainer.global_rank
        self.draws = Draws(self.seed, count, part, self.micro_batches * self.trainer.world_size)
        for layer in self.modules():
            if isinstance(layer, Dropout):
                layer.draws = self.draws
        reseed(key(self.seed, count, part, 1), self.device)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        terms, self._terms = self._terms, {}
        trainer = self.trainer
        every = max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]  # its logger connector sets it
        due = (trainer.global_step + 1) % every == 0
        self._norm = None
        if not due and self.device.type != "cpu":
            return
        self._norm = norm = total_norm(gradients(optimizer))
        # Gradients are the same on all workers, terms are not: only where all workers come here may they reduce the terms.
        if due or not math.isfinite(norm):
            terms = {k: trainer.strategy.reduce(v, reduce_op="mean") for k, v in terms.items()}
        if due or trainer.world_size == 1:
            self._guard(terms)
        if not math.isfinite(norm) and trainer.scaler is None:
            self._guard(terms)
            raise NotFinite(f"The gradient is not finite at step {trainer.global_step} although the loss is.")
        if due:
            self.log_step(terms, norm)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm, as Lightning does, without computing it again where `on_before_optimizer_step` already has."""
        if self._norm is None or not gradient_clip_val:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif (factor := gradient_clip_val / (self._norm + 1e-6)) < 1:
            scale_(gradients(optimizer), factor)

    def log_step(self, terms: dict[str, Tensor], norm: float) -> None:
        """Log the loss terms and the norm of the gradient of one optimiser step."""
        named = {f"loss/{k}": v for k, v in terms.items()}
        found = {"loss": sum(terms.values()), **named, "grad_norm": norm, **self.logged()}
        self.logged_names = frozenset(found)
        self.log_dict(found)

    def logged(self) -> dict[str, float]:
        """What else is logged of a step, by name; the same on all workers. Here nothing."""
        return {}

    def _guard(self, terms: dict[str, Tensor]) -> None:
        for name, value in terms.items():
            if not math.isfinite(value):
                step = self.trainer.global_step
                raise NotFinite(
                    f"The loss '{name}' is {value.item()} at step {step}{self.suspicion()}; the last checkpoint is before it."
                )

    def suspicion(self) -> str:
        """What may have made a loss infinite, as the rest of a sentence; '' where that cannot be known."""
        return ""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if not math.isfinite(total_norm(self.parameters())):
            raise NotFinite(f"A weight is not finite at step {self.trainer.global_step}; this step is not saved.")


def gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The gradients of the optimiser's weights, of those that have one."""
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


@torch.no_grad()
def total_norm(tensors: Iterable[Tensor]) -> float:
    """The Euclidean norm of all elements together; not finite if any is not. Waits for the device once."""
    found = norms([t for t in tensors if t.numel()])
    return torch.linalg.vector_norm(torch.stack(found)).item() if found else 0.0


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Inside, `model` is in evaluation mode (no dropout); after, in the mode that it was in."""
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)
