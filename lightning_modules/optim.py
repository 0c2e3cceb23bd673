"""Optimisers as settings: which one, with what learning rate, and how it warms up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn


class Optim(Protocol):
    """An optimiser and its schedule, as a value that a model is built with."""

    lr: float

    def of(self, module: nn.Module) -> dict[str, Any]:
        """The optimiser of the module's parameters and its schedule, as Lightning's `configure_optimizers` returns them."""
        ...


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1), fused into one pass over the weights."""

    lr: float = 1e-3
    """Learning rate."""
    warmup: int = 0
    """Steps over which the learning rate rises linearly from 0."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the averages of the gradient and of its square."""

    def of(self, module: nn.Module) -> dict[str, Any]:
        """Adam of the module's parameters and its schedule, as Lightning's `configure_optimizers` returns them."""
        optimizer = torch.optim.Adam(module.parameters(), self.lr, betas=self.betas, fused=True)
        # Fused optimisers may also unscale float16 gradients, for which Lightning refuses to clip them: leave that to it.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        return scheduled(optimizer, self.warmup)


@dataclass(frozen=True)
class RMSProp:
    """RMSProp (Tieleman & Hinton 2012, lecture 6.5): the gradient divided by the root of its mean square."""

    lr: float = 5e-5
    """Learning rate."""
    warmup: int = 0
    """Steps over which the learning rate rises linearly from 0."""

    def of(self, module: nn.Module) -> dict[str, Any]:
        """RMSProp of the module's parameters and its schedule, as Lightning's `configure_optimizers` returns them."""
        return scheduled(torch.optim.RMSprop(module.parameters(), self.lr), self.warmup)


def scheduled(optimizer: torch.optim.Optimizer, warmup: int) -> dict[str, Any]:
    """The optimiser with a learning rate that rises linearly over its first `warmup` steps and then stays."""
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, warmup)))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def adam(model: nn.Module, lr: float, *, warmup: int = 0, betas: tuple[float, float] = (0.9, 0.999)) -> dict[str, Any]:
    """`Adam(lr, warmup, betas).of(model)`, for models that do not take `optim` yet."""
    return Adam(lr, warmup, betas).of(model)
