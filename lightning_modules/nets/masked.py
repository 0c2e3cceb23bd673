"""Masked multilayer perceptrons, whose outputs for each input depend only on the inputs before it.

Source: Germain et al. 2015, MADE, arXiv:1502.03509, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.nets.conditioned import ConditionBias


def degrees(size: int, units: int, least: int) -> Tensor:
    """The degree of each unit of a layer, [units]: how many of the first inputs it may depend on.

    Degrees ascend and are spread evenly over least..size-1.

    Differs: MADE draws them at random. Evenly spread ones waste no capacity, and ascending ones let `unroll` work in blocks.
    """
    return least + torch.arange(units) * max(1, size - least) // units


class MaskedMLP(nn.Module):
    """x [B, D] -> [B, k D], k blocks of D: the outputs of input i depend on the inputs before it in the order, and on `cond` [B, C].

    Args:
        size: D.
        hidden: units of each hidden layer.
        outputs: k, outputs for each input.
        cond: C, 0 for none.
        order: a permutation of 0..D-1: which input comes first, second ...; None: as they are.
        activation: a function of one tensor.
    """

    order: Tensor

    def __init__(
        self,
        size: int,
        hidden: Sequence[int],
        outputs: int,
        *,
        cond: int = 0,
        order: Tensor | None = None,
        activation: Callable[[Tensor], Tensor] = F.relu,
    ) -> None:
        super().__init__()
        self.size, self.outputs, self.activation = size, outputs, activation
        self.register_buffer("order", torch.arange(size) if order is None else order)
        rank = self.order.argsort()
        self.degrees = [degrees(size, units, 0 if cond else 1) for units in hidden]
        layers = [size, *hidden, outputs * size]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(layers))
        self.condition_bias = ConditionBias(cond, layers[1])
        degree = [rank + 1, *self.degrees, rank.repeat(outputs)]
        for i, (below, above) in enumerate(pairwise(degree)):
            self.register_buffer(f"mask{i}", (above[:, None] >= below[None]).float())

    def weights(self) -> list[Tensor]:
        """The masked weights of each layer."""
        return [layer.weight * self.get_buffer(f"mask{i}") for i, layer in enumerate(self.layers)]

    def first_bias(self, cond: Tensor | None) -> Tensor:
        """The first layer's bias and the condition's: [units], or [B, units] where there is a condition."""
        return self.condition_bias(self.layers[0].bias, cond)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        first, *rest = self.weights()
        h = torch.addmm(self.first_bias(cond), x, first.T)
        for layer, weight in zip(self.layers[1:], rest, strict=True):
            h = torch.addmm(layer.bias, self.activation(h), weight.T)
        return h

    def unroll(self, univariate: Callable[[int, Tensor], Tensor], like: Tensor, cond: Tensor | None = None) -> Tensor:
        """Compute x [B, D] one input after the other. Each unit is computed once, so all D inputs cost one pass, not D.

        Args:
            univariate: (i, outputs [B, k] of input i) -> x[:, i] [B].
            like: a tensor whose number of rows, type and device x has.
        """
        *hidden, last = self.weights()
        hidden[0] = hidden[0][:, self.order]
        biases = [self.first_bias(cond), *(layer.bias for layer in self.layers[1:])]
        x = like.new_empty(len(like), self.size)  # sorted by the order
        units = [like.new_empty(len(like), len(w)) for w in hidden]
        ends = [torch.searchsorted(d, torch.arange(self.size), right=True).tolist() for d in self.degrees]
        last = last.unflatten(0, (self.outputs, self.size))
        for rank, i in enumerate(self.order.tolist()):
            known = x[:, :rank]
            for h, weight, bias, end in zip(units, hidden, biases, ends, strict=False):
                new = slice(end[rank - 1] if rank else 0, end[rank])
                if new.stop > new.start:
                    h[:, new] = self.activation(torch.addmm(bias[..., new], known, weight[new, : known.shape[1]].T))
                known = h[:, : new.stop]
            outputs = torch.addmm(biases[-1][i :: self.size], known, last[:, i, : known.shape[1]].T)
            x[:, rank] = univariate(i, outputs)
        return x[:, self.order.argsort()]
