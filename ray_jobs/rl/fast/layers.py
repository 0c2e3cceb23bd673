"""The layers of one network, or of many of the same sizes in one batched product each: evaluated, and differentiated past autograd.

Autograd's own pass has half as many operations again, and its records take as long as the products where batches are small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ray_jobs.rl.fast.matmul import quickest, slow_to_begin
from ray_jobs.rl.fast.vmapped import apart

Activation = Callable[[Tensor], Tensor]
"""What lies between layers; it may work in place."""
Slope = Callable[[Tensor, Tensor], Tensor]
"""An activation's backward pass: from a gradient, over which it may write, and what the activation gave."""

threshold_backward = torch.ops.aten.threshold_backward.grad_input
tanh_slope = torch.ops.aten.tanh_backward.grad_input


def relu_backward(grad: Tensor, out: Tensor) -> Tensor:
    """In place of the gradient."""
    return threshold_backward(grad, out, 0, grad_input=grad)


def tanh_(x: Tensor) -> Tensor:
    """In place. By numpy on the CPU, where torch's tanh takes up to four times as long; they differ by 2e-7 at most."""
    if x.device.type != "cpu":
        return x.tanh_()
    numbers = x.numpy()
    np.tanh(numbers, out=numbers)
    return x


def tanh_backward(grad: Tensor, out: Tensor) -> Tensor:
    """In place of the gradient."""
    return tanh_slope(grad, out, grad_input=grad)


# ---- one layer


FEW = 4
"""Networks up to which layers are computed otherwise than of many."""


def by_columns(weight: Tensor) -> bool:
    """Are numbers between layers of weight [S, out, in] to be held as [S, out, N]? What is done to a unit then runs along a row.

    For many networks that takes a tenth less; for a few it depends on how their weights lie.
    """
    return weight.shape[0] > FEW or weight.is_contiguous()


def affines(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What S linear layers say of x [S, N, in]: by weight [S, in, out] and bias [S, 1, out], [S, N, out].

    The bias is added after the product, which takes a twentieth less than to begin with it. Of one output for a few networks, products
    and their sums take half of a batched product's time.
    """
    if weight.shape[-1] == 1 and 1 < weight.shape[0] <= FEW:
        return (x * weight.mT).sum(-1, keepdim=True).add_(bias)
    if by_columns(weight.mT):
        return quickest(torch.bmm, weight.mT, x.mT).add_(bias.mT).mT
    return quickest(torch.bmm, x, weight).add_(bias)


def affine(x: Tensor, weight: Tensor, bias: Tensor, columns: bool) -> Tensor:
    """What a linear layer, weight [out, in] and bias [out], says of x [N, in]; or S layers, [S, out, in], of theirs [S, N, in].

    By columns it is [S, out, N], of x [S, in, N].
    """
    if columns:
        return quickest(torch.bmm, weight, x).add_(bias.unsqueeze(2))
    if x.dim() == 2:
        return quickest(torch.addmm, bias, x, weight.t())
    return affines(x, weight.mT, bias.unsqueeze(1))


THIN, MUCH = 16, 2**14
"""Inputs below which, and numbers in a gradient from which on, the other order of the product and a copy take half of the time."""


def of_weight(grad: Tensor, seen: Tensor, into: Tensor, columns: bool) -> None:
    """A layer's weight's gradient, [out, in] or [S, out, in], from that of what it put out and from what it saw."""
    left, right = (grad, seen.mT) if columns else (grad.mT, seen)
    if not into.is_contiguous():  # then as it lies in memory, or oneDNN's product takes a second
        quickest(torch.matmul, right.mT, left.mT, out=into.mT)
    elif 1 < right.shape[-1] < THIN and grad.numel() >= MUCH:
        into.copy_(quickest(torch.matmul, right.mT, left.mT).mT)
    else:
        quickest(torch.matmul, left, right, out=into)


def of_input(grad: Tensor, weight: Tensor, columns: bool) -> Tensor:
    """The gradient of what a layer saw, from that of what it put out."""
    if columns:
        return quickest(torch.bmm, weight.mT, grad)
    return quickest(torch.mm if grad.dim() == 2 else torch.bmm, grad, weight)


# ---- all layers


def through(x: Tensor, numbers: Sequence[Tensor], activate: Activation) -> list[Tensor]:
    """What each layer sees, `by_columns` or not, and what the last puts out.

    Args:
        x: [N, in], or [S, N, in] of S networks.
        numbers: weight [out, in], bias [out], weight, bias ...; or [S, out, in], [S, out] ...
    """
    columns = x.dim() == 3 and by_columns(numbers[0])
    seen = [x.mT.contiguous() if columns else x]
    for weight, bias in zip(numbers[:-2:2], numbers[1:-2:2], strict=True):
        seen.append(activate(affine(seen[-1], weight, bias, columns)))
    out = affine(seen[-1], *numbers[-2:], columns)
    return [*seen, out.mT if columns else out]


def pull_back(
    grad: Tensor,
    seen: Sequence[Tensor],
    weights: Sequence[Tensor],
    slope: Slope,
    into: Sequence[Tensor | None],
    to_input: bool = False,
) -> Tensor | None:
    """From the gradient of what the last layer put out, those by the parameters and, if asked for, that by x.

    Args:
        seen: what each layer saw, as by `through`.
        into: where the gradients of weight, bias, weight, bias ... go; None is for one that is not wanted.
    """
    columns = grad.dim() == 3 and by_columns(weights[0])
    grad = grad.mT.contiguous() if columns else grad
    for i in range(len(weights) - 1, -1, -1):
        to_weight, to_bias = into[2 * i], into[2 * i + 1]
        if to_bias is not None:
            torch.sum(grad, -1 if columns else -2, out=to_bias)
        if to_weight is not None:
            of_weight(grad, seen[i], to_weight, columns)
        if i or to_input:
            grad = of_input(grad, weights[i], columns)
        if i:
            grad = slope(grad, seen[i])
    if not to_input:
        return None
    return grad.mT if columns else grad


# ---- of one seed, or of several that train together

CACHED, BEGUN = 2**18, 2**20
"""Numbers between two layers, of the networks that are taken at a time: a megabyte, about what a core caches for itself; or four, where
to begin a product takes longer than to fetch them from the cache that cores share."""


def said(activate: Activation, x: Tensor, *numbers: Tensor) -> Tensor:
    """What the networks say of x, as `through`, a few at a time: what a layer writes is then where one before it wrote."""
    n = 1
    if x.dim() > 2 and x.device.type == "cpu":
        most = BEGUN if slow_to_begin() else CACHED
        n = -(-len(x) // max(1, most // (x.shape[1] * max(bias.shape[1] for bias in numbers[1::2]))))
    if n == 1:  # for one network, to go about it as for several takes PPO a twentieth longer
        return through(x, numbers, activate)[-1]
    parts = zip(*(t.chunk(n) for t in (x, *numbers)), strict=True)
    return torch.cat([through(first, rest, activate)[-1] for first, *rest in parts])


class _Chain(torch.autograd.Function):
    """First derivatives only."""

    @staticmethod
    def forward(ctx, activate: Activation, slope: Slope, x: Tensor, *numbers: Tensor) -> Tensor:
        ctx.seen, ctx.slope = through(x, numbers, activate), slope
        ctx.save_for_backward(*numbers)
        return ctx.seen.pop()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "These layers have first derivatives only: build the network by nets.plain_tanh to differentiate twice."
            )
        numbers, (to_input, *needed) = ctx.saved_tensors, ctx.needs_input_grad[2:]
        into = [torch.empty_like(x) if need else None for x, need in zip(numbers, needed, strict=True)]
        by_input = pull_back(grad, ctx.seen, numbers[::2], ctx.slope, into, to_input)
        return None, None, by_input, *into


def chain(x: Tensor, numbers: Sequence[Tensor], activate: Activation, slope: Slope) -> Tensor:
    """What a network says of x [N, in], or n of theirs [n, N, in]; for several seeds that train together, of each one's.

    Args:
        numbers: as of `through`, for all seeds' networks in a row.
    """
    how = partial(_Chain.apply, activate, slope) if torch.is_grad_enabled() else partial(said, activate)

    def f(x: Tensor) -> Tensor:
        out = how(in_a_row(x), *numbers)
        return out.unflatten(0, x.shape[:-2]) if x.dim() > 3 else out

    return apart(f, x)


def in_a_row(x: Tensor) -> Tensor:
    """[S, n, ...] -> [S n, ...]; fewer dimensions than four stay."""
    return x.flatten(0, 1) if x.dim() > 3 else x


Taped = tuple[Tensor, Callable[[], None]]


def taped(x: Tensor, numbers: Sequence[Tensor], activate: Activation, slope: Slope) -> Taped:
    """What a network says of x [*, in], as the beginning of autograd's graph, and what takes its gradient on from there.

    That is to be called when the graph was differentiated; it writes over the parameters' gradients.

    Args:
        numbers: as of `chain`, with a gradient each.
    """
    seen: list[Tensor] = []

    def begin(x: Tensor) -> Tensor:
        with torch.no_grad():
            seen.extend(through(x, numbers, activate))
        return seen[-1].requires_grad_()

    def back() -> None:
        out = seen.pop()
        with torch.no_grad():
            pull_back(out.grad, seen, numbers[::2], slope, [p.grad for p in numbers])

    if x.dim() == 2:
        return apart(begin, x), back
    return apart(begin, x.flatten(0, -2)).unflatten(0, x.shape[:-1]), back


def pulled(
    slope: Callable[..., Tensor], known: Sequence[Tensor], x: Tensor, numbers: Sequence[Tensor], into: Sequence[Tensor]
) -> Tensor:
    """What ReLU networks say of x, as `chain`, without autograd; over the parameters' gradients go those of a loss.

    Args:
        slope: the loss's gradient by what is said [*, N, out] or [*, n, N, out], from that and `known`; of several seeds, of all of them.
        known: what else the loss hangs on.
        numbers: as of `chain`.
        into: where their gradients go.
    """

    def f(x: Tensor, *known: Tensor) -> Tensor:
        seen = through(in_a_row(x), numbers, Tensor.relu_)
        out = seen.pop()
        out = out.unflatten(0, x.shape[:-2]) if x.dim() > 3 else out
        pull_back(in_a_row(slope(out, *known)), seen, numbers[::2], relu_backward, into)
        return out

    return apart(f, x, *known)
