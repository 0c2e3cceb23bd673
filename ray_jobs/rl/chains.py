"""The layers of many networks of the same sizes, evaluated and differentiated as one batched product each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ray_jobs.rl.stacked import apart

threshold_backward = torch.ops.aten.threshold_backward.grad_input
tanh_slope = torch.ops.aten.tanh_backward.grad_input


def relu_backward(grad: Tensor, out: Tensor) -> Tensor:
    """In place of the gradient."""
    return threshold_backward(grad, out, 0, grad_input=grad)


def tanh_backward(grad: Tensor, out: Tensor) -> Tensor:
    """In place of the gradient."""
    return tanh_slope(grad, out, grad_input=grad)


NARROW = 8
"""Columns up to which batched products are computed the other way round, in a third of the time."""


def product(a: Tensor, b: Tensor) -> Tensor:
    """a [S, m, k] @ b [S, k, n]"""
    return torch.bmm(b.mT, a.mT).mT if b.shape[-1] <= NARROW else torch.bmm(a, b)


SMALL = 4
"""Networks of one output up to which products and their sums take half of a batched product's time."""


def affines(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What S linear layers say of x [S, N, in]: by weight [S, in, out] and bias [S, 1, out], [S, N, out].

    The bias is added after the product, which takes a twentieth less than to begin with it.
    """
    alone = weight.shape[-1] == 1 and 1 < len(weight) <= SMALL
    out = (x * weight.mT).sum(-1, keepdim=True) if alone else torch.bmm(x, weight)
    return out.add_(bias)


class _Chain(torch.autograd.Function):
    """First derivatives only. Written out, for autograd's own pass has half as many operations again, each over all seeds' numbers."""

    @staticmethod
    def forward(ctx, activate: Callable, slope: Callable, x: Tensor, *numbers: Tensor) -> Tensor:
        seen, last, linear = [x if x.dim() == 3 else x.flatten(0, 1)], len(numbers) // 2 - 1, x.dim() == 3
        weights = [w.mT if linear else w.flatten(0, 1) for w in numbers[1::2]]
        for i, (bias, weight) in enumerate(zip(numbers[::2], weights, strict=True)):
            out = affines(seen[-1], weight, bias.unsqueeze(1) if linear else bias.flatten(0, 1))
            seen.append(out if i == last else activate(out))
        ctx.slope, ctx.shape = slope, x.shape
        ctx.save_for_backward(*seen[:-1], *weights)
        return seen[-1] if linear else seen[-1].unflatten(0, x.shape[:2])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        n, needed, found, linear = len(ctx.saved_tensors) // 2, ctx.needs_input_grad[2:], [], len(ctx.shape) == 3
        grad = grad if linear else grad.flatten(0, 1)
        for i in range(n - 1, -1, -1):
            seen, weight = ctx.saved_tensors[i], ctx.saved_tensors[n + i]
            of_weight = of_bias = None
            if needed[2 + 2 * i] and linear:
                of_weight, of_bias = product(grad.mT, seen), grad.sum(1)
            elif needed[2 + 2 * i]:
                of_weight = product(seen.mT, grad).unflatten(0, ctx.shape[:2])
                of_bias = grad.sum(1, keepdim=True).unflatten(0, ctx.shape[:2])
            found += [of_weight, of_bias]
            if i:
                grad = ctx.slope(torch.bmm(grad, weight.mT), seen)
        found.append(torch.bmm(grad, ctx.saved_tensors[n].mT).view(ctx.shape) if needed[0] else None)
        return (None, None, *reversed(found))


def chain(activate: Callable, slope: Callable, x: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """What a network, or G of them, says of inputs of its own, for each seed that is seen.

    Args:
        activate: what lies between layers; it may work in place.
        slope: its backward pass, from a gradient and what `activate` gave.
        x: [N, in], or [G, N, in].
        layers: bias [out] and weight [out, in] of each, as nn.Linear has them, or [G, 1, out] and [G, in, out].
    """
    return apart(partial(_Chain.apply, activate, slope), x, *(p for layer in layers for p in layer))
