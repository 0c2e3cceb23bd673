"""The exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from torch import Tensor

from lightning_modules.compat import lerp_


def averaged_weights(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The weights that `EMA` averages, by name: those whose name begins with `model.averaged`, all where it is '' or missing.

    Weights that require no gradient never move, so they have no average.
    """
    prefix = getattr(model, "averaged", "")
    return {k: p for k, p in model.named_parameters() if k.startswith(prefix) and p.requires_grad}


def matched(average: Mapping[str, Tensor], model: torch.nn.Module) -> dict[str, Tensor]:
    """The average on the device of `model`, in the order of its parameters.

    Raises:
        ValueError: it is that of another model.
    """
    own = averaged_weights(model)
    if {k: p.shape for k, p in own.items()} != {k: a.shape for k, a in average.items()}:
        raise ValueError("The averaged weights in the checkpoint are not those of this model.")
    return {k: average[k].to(p) for k, p in own.items()}


class EMA(L.Callback):
    """Exponential moving average of the weights (not of the buffers).

    After the n-th optimiser step: average += (1 - r) (weights - average), r = min(decay, (1 + n) / (10 + n)); the ramp
    keeps the initial weights from dominating short runs. With a `ramp` r = min(decay, 0.5^(1 / (ramp n))): the half-life is
    at most this part of the steps done, as in the code of EDM (Karras et al. 2022, arXiv:2206.00364), where it is 0.05.

    Args:
        decay: in [0, 1); 0.5^(1 / h) for a half-life of h steps.
        ramp: at least 0; 0 for the first form.

    Differs: not Lightning's `EMAWeightAveraging` (2.6). That one resumes exactly too, but an update takes 24 to 65 times as long
        (6 tensors: 10 against 680 us; 80: 180 against 5,200 us; on one core, the least of 15, on a busy machine; a subclass with
        torch's fused kernel still 250 and 1,500 us), it averages every weight and copies the whole model, so that a teacher or a
        discriminator costs the same again, it replaces the first average by the weights, and it swaps the weights of the checkpoint.

    Raises:
        ValueError: `decay` or `ramp` is out of range, or the state loaded is that of another model.
    """

    state_key = "EMA"

    def __init__(self, decay: float, ramp: float = 0.0) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"The decay of the weights' average is {decay}; it must be in [0, 1).")
        if ramp < 0:
            raise ValueError(f"The ramp of the weights' average is {ramp}; it must be at least 0.")
        self.decay, self.ramp, self.steps = decay, ramp, 0
        self.average: dict[str, Tensor] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.average:
            self.average = {k: p.detach().clone() for k, p in averaged_weights(pl_module).items()}
        self.average = matched(self.average, pl_module)
        self._weights: list[Tensor] = list(averaged_weights(pl_module).values())
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
        n = self.steps
        keep = min(self.decay, 0.5 ** (1 / (self.ramp * n)) if self.ramp else (1 + n) / (10 + n))
        lerp_(list(self.average.values()), self._weights, 1 - keep)

    def restart(self, weights: Mapping[str, Tensor]) -> None:
        """Begin again as these weights, so that none of before count."""
        self.steps = 0
        for name, value in self.average.items():
            value.copy_(weights[name])

    @contextmanager
    def swapped(self, model: torch.nn.Module) -> Iterator[None]:
        """Inside, `model` has the averaged weights; after, its own, whatever is raised inside. Do not train inside."""
        if not self.average:
            yield
            return
        self.average = matched(self.average, model)
        own = [(p, p.data) for p in averaged_weights(model).values()]
        try:
            for (p, _), average in zip(own, self.average.values(), strict=True):
                p.data = average
            yield
        finally:
            for p, data in own:
                p.data = data

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps, self.average = state_dict["steps"], dict(state_dict["average"])
