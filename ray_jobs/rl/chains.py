"""The layers of many networks of the same sizes, evaluated and differentiated as one batched product each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ray_jobs.rl.stacked import apart

threshold_backward = torch.ops.aten.threshold_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.default


def relu_backward(grad: Tensor, out: Tensor) -> Tensor:
    """In place of the gradient."""
    return threshold_backward(grad, out, 0, grad_input=grad)


class _Chain(torch.autograd.Function):
    """First derivatives only. Written out, for autograd's own pass has half as many operations again, each over all seeds' numbers."""

    @staticmethod
    def forward(ctx, activate: Callable, slope: Callable, x: Tensor, *numbers: Tensor) -> Tensor:
        seen, last = [x], len(numbers) // 2 - 1
        for i, (bias, weight) in enumerate(zip(numbers[::2], numbers[1::2], strict=True)):
            out = torch.baddbmm(bias, seen[-1], weight)
            seen.append(out if i == last else activate(out))
        ctx.slope = slope
        ctx.save_for_backward(*seen[:-1], *numbers[1::2])
        return seen[-1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        n, needed, found = len(ctx.saved_tensors) // 2, ctx.needs_input_grad[2:], []
        for i in range(n - 1, -1, -1):
            seen, weight = ctx.saved_tensors[i], ctx.saved_tensors[n + i]
            if needed[2 + 2 * i]:
                whole = weight.is_contiguous()  # else it is a transposed view, and so must its gradient be
                found.append(torch.bmm(seen.mT, grad) if whole else torch.bmm(grad.mT, seen).mT)
            else:
                found.append(None)
            found.append(grad.sum(1, keepdim=True) if needed[1 + 2 * i] else None)
            if i:
                grad = ctx.slope(torch.bmm(grad, weight.mT), seen)
        found.append(torch.bmm(grad, ctx.saved_tensors[n].mT) if needed[0] else None)
        return (None, None, *reversed(found))


def chain(activate: Callable, slope: Callable, x: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """What G networks say of inputs of their own, for each seed that is seen.

    Args:
        activate: what lies between layers; it may work in place.
        slope: its backward pass, from a gradient and what `activate` gave.
        x: [N, in], or [G, N, in].
        layers: bias [out] and weight [out, in] of each, as nn.Linear has them, or [G, 1, out] and [G, in, out].
    """

    def all_seeds(x: Tensor, *numbers: Tensor) -> Tensor:
        shape = x.shape
        if len(shape) == 3:
            numbers = tuple(p.mT if i % 2 else p.unsqueeze(1) for i, p in enumerate(numbers))
        else:
            x, numbers = x.flatten(0, 1), tuple(p.flatten(0, 1) for p in numbers)
        out = _Chain.apply(activate, slope, x, *numbers)
        return out.view(*shape[:-1], out.shape[-1])

    return apart(all_seeds, x, *(p for layer in layers for p in layer))
