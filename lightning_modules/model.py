"""What every generative model here can do, and the randomness, averaging and guarding that they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import lightning as L
import numpy as np
import torch
from torch import Tensor

from lightning_modules.conditions import Cond

Batch = dict[str, Tensor]
"""One batch of any data set: 'x' [B, *D], and where there are classes 'label' [B], long."""


@runtime_checkable
class Samples(Protocol):
    """A model that draws: [n, *D], given conditions (labels [n], or more in a `Cond`) or not."""

    def sample(self, n: int, cond: Tensor | Cond | None = None, *, rng: torch.Generator | None = None) -> Tensor: ...


@runtime_checkable
class Density(Protocol):
    """A model that scores: [B] nats. Where it is a bound, the docstring says so."""

    def log_prob(self, x: Tensor, cond: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class Shows(Protocol):
    """A model with more to show than samples: for each picture's name examples [n, *D], best so many that rows of eight fill a
    square of them, 64. `data` is the data module, set up for its held-out examples."""

    def pictures(self, data: Any, rng: torch.Generator) -> dict[str, Tensor]: ...


class NotFinite(FloatingPointError):
    """A loss, gradient or weight is NaN or infinite; the sentence names the step and the loss term."""


def key(*counters: int) -> int:
    """A seed in [0, 2^63) that is a pure function of `counters` (each >= 0); a zero at the end does not count."""
    return int(np.random.SeedSequence(counters).generate_state(1, np.uint64)[0] >> 1)


@dataclass
class Draws:
    """Random numbers of one micro-batch: the i-th draw is a pure function of (seed, step, i).

    Each draw is made for the whole global batch, of which this worker keeps its own rows. So the numbers that meet an
    example depend on its place in the global batch alone: not on how many workers share the batch, not on how many
    micro-batches it is cut into, and not on what was drawn in earlier steps. Nothing has to be saved to resume.

    Args:
        seed: of the run, >= 0.
        step: optimiser steps done.
        part, parts: the global batch is cut into `parts` equal contiguous slices; this one is number `part`.
    """

    seed: int = 0
    step: int = 0
    part: int = 0
    parts: int = 1
    count: int = 0

    def normal(self, *shape: int, device: torch.device | str = "cpu") -> Tensor:
        """Standard normal numbers [B, *D], where B is the rows of this micro-batch on this worker."""
        return self._rows(lambda s, g: torch.randn(s, generator=g, device=device), shape, device)

    def uniform(self, *shape: int, device: torch.device | str = "cpu") -> Tensor:
        """Uniform numbers in [0, 1), [B, *D]."""
        return self._rows(lambda s, g: torch.rand(s, generator=g, device=device), shape, device)

    def integers(self, high: int, *shape: int, device: torch.device | str = "cpu") -> Tensor:
        """Uniform integers in 0..high-1, [B, *D], long."""
        return self._rows(lambda s, g: torch.randint(high, s, generator=g, device=device), shape, device)

    def _rows(self, draw: Callable[..., Tensor], shape: tuple[int, ...], device: torch.device | str) -> Tensor:
        rng = torch.Generator(device).manual_seed(key(self.seed, self.step, self.count))
        self.count += 1
        rows = shape[0]
        whole = draw((rows * self.parts, *shape[1:]), rng)
        return whole[rows * self.part : rows * (self.part + 1)]


class Generative(L.LightningModule):
    """A model trained by minimising the sum of its `losses`.

    Games (`gan.game`) override `training_step` and pass their losses through `total`, everything else overrides `losses`.
    Random numbers of the training come from `self.draws`; what draws from torch's own generator, such as dropout, finds
    it seeded anew for every micro-batch. So a resumed run continues with the same numbers, and nothing has to be saved.

    Raises:
        NotFinite: a loss or a gradient is NaN or infinite, before the optimiser would step; on a GPU, where each look
            waits for the device, only at the steps that are logged; or a weight is, before it would be saved.
    """

    seed: int = 0
    """Of the run, >= 0; whoever trains the model sets it before the fit."""
    turns: int = 1
    """Global batches that one step of `Fit.steps` takes; a game's discriminator may take several."""
    shape: tuple[int, ...] = ()
    """Of an example."""
    averaged: str = ""
    """Prefix of the names of the weights that are averaged; '' averages all."""

    def __init__(self) -> None:
        super().__init__()
        self.draws = Draws()
        self._terms: dict[str, Tensor] = {}
        self._norm: float | None = None  # of the gradient of this step, where it was looked at

    def __setattr__(self, name: str, value: Any) -> None:
        if (
            name == "_current_fx_name"
        ):  # Lightning sets it fifty times a step; that it is no weight need not be found out
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalars []; their sum is minimised."""
        raise NotImplementedError(f"{type(self).__name__} has neither losses nor a training_step of its own")

    def of_shape(self, x: Tensor) -> Tensor:
        """x [B, *D], if D is the model's shape.

        Raises:
            ValueError: it is another.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"{type(self).__name__} takes examples of shape {self.shape}, not {tuple(x.shape[1:])}.")
        return x

    def fitting(self, x: Tensor, levels: int = 0) -> Tensor:
        """x [B, *D], if the model can use it.

        Args:
            levels: numbers must be in [-1, 1], if there are any.

        Raises:
            ValueError: as `of_shape`; on a CPU, where a look waits for nothing, also numbers that are not finite or not in the range.
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
        return self.total(self.losses(batch))

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The sum [] of `terms`, whose means over the micro-batches of a step are logged and guarded."""
        share = 1 / self.micro_batches
        for name, value in terms.items():
            self._terms[name] = self._terms.get(name, 0.0) + value.detach() * share
        return torch.stack(list(terms.values())).sum()

    @property
    def micro_batches(self) -> int:
        """That make up one global batch on each worker."""
        return self.trainer.accumulate_grad_batches

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.deal(self.trainer.global_step, batch_idx % self.micro_batches)

    def deal(self, count: int, micro: int) -> None:
        """Set the random numbers of a micro-batch of the `count`-th gradient of the run."""
        part = micro * self.trainer.world_size + self.trainer.global_rank
        self.draws = Draws(self.seed, count, part, self.micro_batches * self.trainer.world_size)
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
        # Gradients are the same on all workers, terms are not: only together may they meet to look at the terms.
        if due or not math.isfinite(norm):
            terms = {k: trainer.strategy.reduce(v, reduce_op="mean") for k, v in terms.items()}
        if due or trainer.world_size == 1:
            self._guard(terms)
        if not math.isfinite(norm) and trainer.scaler is None:
            self._guard(terms)
            raise NotFinite(f"The gradient is not finite at step {trainer.global_step} although the loss is.")
        if due:
            self.tell(terms, norm)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """As Lightning clips, by the norm, which is not computed again where `on_before_optimizer_step` looked at it."""
        if self._norm is None or not gradient_clip_val:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif (factor := gradient_clip_val / (self._norm + 1e-6)) < 1:
            torch._foreach_mul_(gradients(optimizer), factor)

    def tell(self, terms: dict[str, Tensor], norm: float) -> None:
        """Log the terms and the gradient's norm of one optimiser's step."""
        self.log_dict({"loss": sum(terms.values()), **{f"loss/{k}": v for k, v in terms.items()}, "grad_norm": norm})

    def _guard(self, terms: dict[str, Tensor]) -> None:
        for name, value in terms.items():
            if not math.isfinite(value):
                step = self.trainer.global_step
                raise NotFinite(
                    f"The loss '{name}' is {value.item()} at step {step}{self.suspicion()}; the last checkpoint is before it."
                )

    def suspicion(self) -> str:
        """What may have made a loss infinite, to stand in a sentence; nothing where it cannot be seen."""
        return ""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if not math.isfinite(total_norm(self.parameters())):
            raise NotFinite(f"A weight is not finite at step {self.trainer.global_step}; this step is not saved.")


def reseed(seed: int, device: torch.device) -> None:
    """Seed the generators of torch that layers on `device` draw from (manual_seed takes 0.1 ms: it visits all)."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)


def gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Of all weights that it moves and that have one."""
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


@torch.no_grad()
def total_norm(tensors: Iterable[Tensor]) -> float:
    """The Euclidean norm of all numbers together; not finite if any is not. Waits for the device once."""
    norms = torch._foreach_norm([t for t in tensors if t.numel()])
    return torch.linalg.vector_norm(torch.stack(norms)).item() if norms else 0.0


def averaged(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The weights of which `EMA` keeps an average, by name: a `Generative` may say that they are a part of it."""
    prefix = getattr(model, "averaged", "")
    return {k: p for k, p in model.named_parameters() if k.startswith(prefix)}


class EMA(L.Callback):
    """Exponential moving average of the weights (not of the buffers).

    After the n-th optimiser step: average += (1 - r) (weights - average), r = min(decay, (1 + n) / (10 + n)); the ramp
    keeps the initial weights from dominating short runs.

    Args:
        decay: in [0, 1).

    Raises:
        ValueError: `decay` is out of range, or the state loaded is that of another model.
    """

    state_key = "EMA"

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"The decay of the weights' average is {decay}; it must be in [0, 1).")
        self.decay, self.steps = decay, 0
        self.average: dict[str, Tensor] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.average:
            self.average = {k: p.detach().clone() for k, p in averaged(pl_module).items()}
        self._match(pl_module)
        self._weights: list[Tensor] = list(averaged(pl_module).values())
        self._seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step > self._seen:  # a micro-batch that only adds to the gradient moves nothing
            self._seen = trainer.global_step
            self.update()

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights that are trained, once per optimiser step."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.average.values()), self._weights, 1 - keep)

    @contextmanager
    def swapped(self, model: torch.nn.Module) -> Iterator[None]:
        """Inside, `model` has the averaged weights; after, its own, whatever is raised inside. Do not train inside."""
        if not self.average:
            yield
            return
        self._match(model)
        own = [(p, p.data) for p in averaged(model).values()]
        try:
            for (p, _), average in zip(own, self.average.values(), strict=True):
                p.data = average
            yield
        finally:
            for p, data in own:
                p.data = data

    def _match(self, model: torch.nn.Module) -> None:
        """Bring the average to the device of `model`, in the order of its parameters."""
        own = averaged(model)
        if {k: p.shape for k, p in own.items()} != {k: a.shape for k, a in self.average.items()}:
            raise ValueError("The averaged weights in the checkpoint are not those of this model.")
        self.average = {k: self.average[k].to(p) for k, p in own.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps, self.average = state_dict["steps"], dict(state_dict["average"])


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Inside, `model` is in evaluation mode (no dropout); after, in the mode that it was in."""
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)
