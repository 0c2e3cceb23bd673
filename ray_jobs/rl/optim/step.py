"""One gradient step: differentiate a loss, average over learners, clip, step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ray_jobs.rl.contract import Optimizer, World
from ray_jobs.rl.fast.seed_stacks import StackedOptimizer
from ray_jobs.rl.fast.vmapped import apart
from ray_jobs.rl.networks.critics import Ensemble
from ray_jobs.rl.networks.nets import Relus
from ray_jobs.rl.optim.adam import Adam, RMSProp


def rebind(parameters: Sequence[nn.Parameter]) -> nn.Parameter:
    """One vector [P] of which the parameters, and their gradients, become views.

    One tensor is what an optimiser steps fastest, what is clipped by one norm, and one bucket to average over learners.
    """
    flat = nn.Parameter(torch.cat([p.detach().flatten() for p in parameters]))
    flat.grad = torch.zeros_like(flat)
    sizes = [p.numel() for p in parameters]
    for p, data, grad in zip(parameters, flat.data.split(sizes), flat.grad.split(sizes), strict=True):
        p.data, p.grad = data.view_as(p), grad.view_as(p)
    return flat


def adam(module: nn.Module, lr: float, eps: float = 1e-8) -> Adam:
    """Adam over all of a module's parameters as one vector."""
    return Adam(rebind(list(module.parameters())), lr, eps=eps)


def rmsprop(module: nn.Module, lr: float, alpha: float = 0.99, eps: float = 1e-8) -> RMSProp:
    """RMSProp over all of a module's parameters as one vector."""
    return RMSProp(rebind(list(module.parameters())), lr, alpha, eps)


def descend(
    loss: Tensor,
    optimizer: Optimizer,
    world: World,
    max_norm: float = float("inf"),
    back: Callable[[], None] = lambda: None,
) -> None:
    """One gradient step of an optimiser made by `adam` or `rmsprop`: averaged over the learners, clipped by its norm, taken.

    Args:
        back: takes the gradient on from where autograd's graph began: see `ActorCritic.taped`.
    """
    if isinstance(optimizer, StackedOptimizer):
        return optimizer.descend(loss, max_norm, back)
    optimizer.param_groups[0]["params"][0].grad.zero_()
    loss.backward()
    back()
    return follow(optimizer, world, max_norm)


def follow(optimizer: Optimizer, world: World, max_norm: float = float("inf")) -> None:
    """The same step, of the gradient that is there."""
    if isinstance(optimizer, StackedOptimizer):
        return optimizer.follow(max_norm)
    gradient = optimizer.param_groups[0]["params"][0].grad
    if world.size > 1:
        gradient.copy_(world.mean(gradient))
    if max_norm < float("inf"):
        clip(gradient, max_norm)
    return optimizer.step()


def clip(gradient: Tensor, max_norm: float) -> None:
    """Shrink a gradient, in place, to the norm that it may have at most."""
    norm = torch.linalg.vector_norm(gradient) + 1e-6
    if gradient.device.type != "cpu":  # to look at it would wait for the device
        gradient.mul_((max_norm / norm).clamp_(max=1.0))
    elif (found := norm.item()) > max_norm:
        gradient.mul_(max_norm / found)


def descend_along(
    slope: Callable[..., Tensor],
    net: nn.Module,
    inputs: tuple[Tensor, ...],
    known: tuple[Tensor, ...],
    optimizer: Optimizer,
    world: World,
    max_norm: float = float("inf"),
) -> Tensor:
    """`descend` on a loss that is told by its gradient with respect to net(*inputs).

    ReLU networks are then differentiated without autograd, whose records take longer than the products where batches are small.

    Args:
        slope: makes it of net(*inputs) and what is `known`. It is told those of several seeds that train together, [S, ...] each.
        optimizer: of all the net's parameters and no others.

    Returns:
        net(*inputs), from before the step.
    """
    if isinstance(net, Relus | Ensemble):
        with torch.no_grad():
            out = net.pulled(slope, known, *inputs)
        follow(optimizer, world, max_norm)
        return out
    out = net(*inputs)
    descend((out * apart(slope, out.detach(), *known)).sum(), optimizer, world, max_norm)
    return out.detach()
