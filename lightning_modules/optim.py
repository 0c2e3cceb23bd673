"""Optimisers as values: which one, with what learning rate, and how that rises and falls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from lightning_modules.compat import without_amp_scaling


class Optim(Protocol):
    """An optimiser and its schedule, as a value that a model is built with."""

    @property
    def lr(self) -> float:
        """The learning rate, at its highest."""
        ...

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
    decay_steps: int = 0
    """Steps over which the learning rate falls linearly to 0; 0: it stays."""

    def of(self, module: nn.Module) -> dict[str, Any]:
        """Adam of the module's parameters and its schedule, as Lightning's `configure_optimizers` returns them."""
        optimizer = torch.optim.Adam(module.parameters(), self.lr, betas=self.betas, fused=True)
        return scheduled(without_amp_scaling(optimizer), self.warmup, self.decay_steps)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2)."""

    lr: float = 1e-3
    """Learning rate."""
    warmup: int = 0
    """Steps over which the learning rate rises linearly from 0."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the averages of the gradient and of its square."""
    decay_steps: int = 0
    """Steps over which the learning rate falls linearly to 0; 0: it stays."""
    weight_decay: float = 0.0
    """Share of a weight that one step takes away, over the learning rate."""

    def of(self, module: nn.Module) -> dict[str, Any]:
        """AdamW of the module's parameters and its schedule, as Lightning's `configure_optimizers` returns them."""
        made = torch.optim.AdamW(
            module.parameters(), self.lr, betas=self.betas, weight_decay=self.weight_decay, fused=True
        )
        return scheduled(without_amp_scaling(made), self.warmup, self.decay_steps)


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


def scheduled(optimizer: torch.optim.Optimizer, warmup: int, decay_steps: int = 0) -> dict[str, Any]:
    """The optimiser with its schedule: the learning rate rises linearly over `warmup` steps, and falls to 0 over `decay_steps`, if any."""

    def factor(step: int) -> float:
        left = max(0.0, 1 - step / decay_steps) if decay_steps else 1.0
        return min(1.0, (step + 1) / max(1, warmup)) * left

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
