"""One gradient step: differentiate a loss, average the gradient over learners, clip it, step."""

from __future__ import annotations

from torch import Tensor, nn

from ray_jobs.rl.contract import Optimizer, World
from ray_jobs.rl.fast.flat_weights import flatten
from ray_jobs.rl.optim.adam import Adam, RMSProp


def adam(module: nn.Module, lr: float, eps: float = 1e-8) -> Adam:
    """Adam over all of a module's parameters."""
    return Adam(flatten(list(module.parameters())), lr, eps=eps)


def rmsprop(module: nn.Module, lr: float, alpha: float = 0.99, eps: float = 1e-8) -> RMSProp:
    """RMSProp over all of a module's parameters."""
    return RMSProp(flatten(list(module.parameters())), lr, alpha, eps)


def gradient_step(loss: Tensor, optimizer: Optimizer, world: World, max_norm: float = float("inf")) -> None:
    """Move an optimiser's parameters by one step down the gradient of a loss.

    Args:
        loss: scalar; of this learner's share of the data.
        optimizer: its gradient is overwritten; parameters of other optimisers get none that counts.
        world: the learners over which the gradient is averaged.
        max_norm: the gradient is shrunk to this norm if it is larger.
    """
    optimizer.differentiate(loss)
    apply_gradient(optimizer, world, max_norm)


def apply_gradient(optimizer: Optimizer, world: World, max_norm: float = float("inf")) -> None:
    """The same step, by the gradient that the optimiser has."""
    if world.size > 1:
        optimizer.average(world.mean)
    if max_norm < float("inf"):
        optimizer.clip(max_norm)
    optimizer.step()
