"""Masked autoregressive networks, and the flows that they make.

Source: Germain et al. 2015, arXiv:1502.03509, section 4; Papamakarios et al. 2017, arXiv:1705.07057, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.flows.bijection import Bijection, Mapped
from lightning_modules.flows.coupling import Gains, affine
from lightning_modules.nets.conditioned import Steer


def degrees(size: int, units: int, least: int) -> Tensor:
    """How many of the first inputs each of a layer's units may see, in ascending order, spread evenly over least..size-1.

    Differs: MADE draws them at random; even ones waste no capacity, and ascending ones let a sampler work in blocks.
    """
    return least + torch.arange(units) * max(1, size - least) // units


class MaskedMLP(nn.Module):
    """x [B, D] -> [B, k D], k blocks of D: the numbers of place i depend on the inputs before it in the order, and on `cond` [B, C].

    Args:
        size: D.
        hidden: units of each hidden layer.
        outputs: k, numbers for each input.
        cond: C.
        order: which input comes first, second ...: a permutation of 0..D-1; None is as they come.
        activation: a function of one tensor.
    """

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
        place = self.order.argsort()
        self.seen = [degrees(size, units, 0 if cond else 1) for units in hidden]
        layers = [size, *hidden, outputs * size]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(layers))
        self.steer = Steer(cond, layers[1])
        needs = [place + 1, *self.seen, place.repeat(outputs)]
        for i, (below, above) in enumerate(pairwise(needs)):
            self.register_buffer(f"mask{i}", (above[:, None] >= below[None]).float())

    def weights(self) -> list[Tensor]:
        """Each layer's, with zeros where nothing may pass."""
        return [layer.weight * self.get_buffer(f"mask{i}") for i, layer in enumerate(self.layers)]

    def first(self, cond: Tensor | None) -> Tensor:
        """The bias of the first layer, steered: [units] or [B, units]."""
        return self.steer(self.layers[0].bias, cond)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        first, *rest = self.weights()
        h = torch.addmm(self.first(cond), x, first.T)
        for layer, weight in zip(self.layers[1:], rest, strict=True):
            h = torch.addmm(layer.bias, self.activation(h), weight.T)
        return h

    def unroll(self, fill: Callable[[int, Tensor], Tensor], like: Tensor, cond: Tensor | None = None) -> Tensor:
        """Build x [B, D] one place after the other; each unit is computed once, so that all places cost one pass, not D.

        Args:
            fill: (i, the numbers [B, k] of input i) -> x[:, i] [B].
            like: a tensor whose rows, type and device x has.
        """
        *hidden, last = self.weights()
        hidden[0] = hidden[0][:, self.order]
        biases = [self.first(cond), *(layer.bias for layer in self.layers[1:])]
        x = like.new_empty(len(like), self.size)  # in the order of places
        units = [like.new_empty(len(like), len(w)) for w in hidden]
        ends = [torch.searchsorted(d, torch.arange(self.size), right=True).tolist() for d in self.seen]
        last = last.unflatten(0, (self.outputs, self.size))
        for place, i in enumerate(self.order.tolist()):
            known = x[:, :place]
            for h, weight, bias, end in zip(units, hidden, biases, ends, strict=False):
                new = slice(end[place - 1] if place else 0, end[place])
                if new.stop > new.start:
                    h[:, new] = self.activation(torch.addmm(bias[..., new], known, weight[new, : known.shape[1]].T))
                known = h[:, : new.stop]
            numbers = torch.addmm(biases[-1][i :: self.size], known, last[:, i, : known.shape[1]].T)
            x[:, place] = fill(i, numbers)
        return x[:, self.order.argsort()]


class Autoregressive(Bijection):
    """Each number times exp(s) plus t, with s and t from those before it: one pass forwards, one place at a time back.

    Args:
        net: what tells s and t.
        gains: reads the network's numbers, as in coupling.

    Source: MAF, eq. 3 to 5; the other way round, by `Inverse`, it is IAF: Kingma et al. 2016, arXiv:1606.04934, eq. 10.
    Differs: z = x exp(s) + t where the paper has (x - mu) exp(-alpha).
    """

    def __init__(self, net: MaskedMLP, gains: Gains = affine) -> None:
        super().__init__()
        self.net, self.gains = net, gains

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Mapped:
        scale, shift = self.gains(self.net(x, cond))
        return Mapped(x * scale.exp() + shift, scale.sum(1))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> Mapped:
        """One place after the other; where gradients are wanted, D whole passes, after each of which one more place is right."""
        if torch.is_grad_enabled():
            x = z
            for _ in range(self.net.size):
                scale, shift = self.gains(self.net(x, cond))
                x = (z - shift) * (-scale).exp()
            return Mapped(x, -scale.sum(1))
        logdet = z.new_zeros(len(z))

        def fill(i: int, numbers: Tensor) -> Tensor:
            scale, shift = self.gains(numbers)
            logdet.sub_(scale[:, 0])
            return (z[:, i] - shift[:, 0]) * (-scale[:, 0]).exp()

        return Mapped(self.net.unroll(fill, z, cond), logdet)
