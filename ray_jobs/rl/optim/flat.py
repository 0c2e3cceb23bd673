"""What the optimisers here have in common: all parameters are one vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ray_jobs.rl.fast.recorded import backward


class FlatOptimizer:
    """An optimiser of one vector of parameters [P]; a subclass adds `step` and its state.

    Args:
        flat: the parameters [P], with a gradient [P], as `fast.flat_weights.flatten` makes them.
        lr: step size.
        settings: the other hyperparameters, by name.
    """

    def __init__(self, flat: Tensor, lr: float, settings: Mapping[str, Any]) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": [flat], "lr": lr, **settings}]

    @property
    def lr(self) -> float:
        """Step size."""
        return self.param_groups[0]["lr"]

    @lr.setter
    def lr(self, value: float) -> None:
        self.param_groups[0]["lr"] = value

    @property
    def gradient(self) -> Tensor:
        """[P], to be written in place."""
        return self.param_groups[0]["params"][0].grad

    def differentiate(self, loss: Tensor) -> None:
        """Write the gradient of a scalar loss, over what was there."""
        self.gradient.zero_()
        backward(loss)

    def average(self, mean: Callable[[Tensor], Tensor]) -> None:
        """Replace the gradient by its mean over learners."""
        self.gradient.copy_(mean(self.gradient))

    def clip(self, max_norm: float) -> None:
        """Shrink the gradient to the norm `max_norm`, if its own is larger."""
        shrink(self.gradient, max_norm)

    def step(self) -> None:
        """Move the parameters by one step down their gradient."""
        raise NotImplementedError

    def groups(self) -> list[dict[str, Any]]:
        """The hyperparameters as torch's `state_dict` holds them."""
        return [self.param_groups[0] | {"params": [0]}]

    def load_groups(self, groups: list[dict[str, Any]]) -> None:
        """The inverse of `groups`."""
        self.param_groups[0] |= {k: v for k, v in groups[0].items() if k != "params"}


@torch.no_grad()
def shrink(gradient: Tensor, max_norm: float) -> None:
    """Scale a gradient [P] in place to the norm `max_norm`, if its own is larger. One that is not finite stays so."""
    norm = torch.linalg.vector_norm(gradient)
    if gradient.device.type != "cpu":  # to read the norm would wait for the device
        gradient.mul_((max_norm / (norm + 1e-6)).clamp_(max=1.0))
    elif not (share := max_norm / (norm.item() + 1e-6)) >= 1:
        gradient.mul_(share)
