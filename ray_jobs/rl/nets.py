"""Small networks for reinforcement learning."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn


def orthogonal(layer: nn.Linear, gain: float) -> nn.Linear:
    """The layer with orthogonal weights times `gain`, and no bias.

    Source: Saxe et al. 2014, arXiv:1312.6120.
    """
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(sizes: Sequence[int], *, activation: type[nn.Module]) -> nn.Sequential:
    """[*, sizes[0]] -> [*, sizes[-1]], as torch initialises it.

    Its biases are spread out, without which ReLU units all bend at the origin: DQN diverged on CartPole with biases of 0.
    """
    layers: list[nn.Module] = []
    for width_in, width in pairwise(sizes[:-1]):
        layers += [nn.Linear(width_in, width), activation()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


tanh_backward = torch.ops.aten.tanh_backward.default


class TanhMLP(nn.Module):
    """`mlp` with tanh and orthogonal weights, its backward pass written out: about half of autograd's time for 64 x 64 units on a CPU.

    First derivatives only: what differentiates twice (Fisher products) takes `mlp`.
    """

    def __init__(self, sizes: Sequence[int], *, last: float | Sequence[float] = 1.0) -> None:
        super().__init__()
        gains = [2**0.5] * (len(sizes) - 2) + [1.0]
        self.layers = nn.ModuleList(
            orthogonal(nn.Linear(a, b), g) for (a, b), g in zip(pairwise(sizes), gains, strict=True)
        )
        with torch.no_grad():
            self.layers[-1].weight.mul_(torch.as_tensor(last).reshape(-1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[*, sizes[0]] -> [*, sizes[-1]]"""
        numbers = [p for layer in self.layers for p in (layer.weight, layer.bias)]
        rows = x.flatten(0, -2) if x.dim() > 2 else x
        out = _Tanh.apply(rows, *numbers) if torch.is_grad_enabled() else chain(rows, numbers)[-1]
        return out.unflatten(0, x.shape[:-1]) if x.dim() > 2 else out


def chain(x: Tensor, numbers: Sequence[Tensor]) -> list[Tensor]:
    """What each layer sees, and what the last puts out; `numbers` are weight [out, in], bias [out], weight, bias ..."""
    seen = [x]
    for weight, bias in zip(numbers[:-2:2], numbers[1:-2:2], strict=True):
        seen.append(tanh_(torch.addmm(bias, seen[-1], weight.t())))
    return [*seen, torch.addmm(numbers[-1], seen[-1], numbers[-2].t())]


def tanh_(x: Tensor) -> Tensor:
    """In place. By numpy on the CPU, where torch's tanh takes up to four times as long; they differ by 2e-7 at most."""
    if x.device.type != "cpu":
        return x.tanh_()
    np.tanh(x.numpy(), out=x.numpy())
    return x


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, *numbers: Tensor) -> Tensor:
        *seen, out = chain(x, numbers)
        ctx.save_for_backward(*seen, *numbers[::2])
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "TanhMLP has first derivatives only: build the network by nets.mlp to differentiate twice."
            )
        saved, found = ctx.saved_tensors, []
        n = len(saved) // 2
        for i in range(n - 1, -1, -1):
            seen, weight = saved[i], saved[n + i]
            thin = seen.shape[1] < 16  # then the other order takes a third of the time
            found += [grad.sum(0), (seen.t() @ grad).t() if thin else grad.t() @ seen]
            if i:
                grad = tanh_backward(grad @ weight, seen)
        found.append(grad @ saved[n] if ctx.needs_input_grad[0] else None)
        return tuple(reversed(found))
