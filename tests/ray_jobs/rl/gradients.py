"""Gradients of agents, so that tests need not know how an optimiser or a network keeps them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def gradient_of(module: nn.Module) -> Tensor:
    """[P]: the gradient that the last update left for a module's parameters, in order."""
    return joined(p.grad for p in module.parameters())


def differentiated(loss: Tensor, module: nn.Module) -> Tensor:
    """[P]: the gradient of a loss by a module's parameters, in order, by autograd; 0 for those that it does not depend on."""
    return joined(torch.autograd.grad(loss, list(module.parameters()), allow_unused=True, materialize_grads=True))


def joined(parts: Iterable[Tensor]) -> Tensor:
    """[P], copied."""
    return torch.cat([x.detach().flatten() for x in parts])
