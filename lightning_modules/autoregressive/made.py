"""MADE: a masked autoencoder that predicts each bit of a vector from the bits before it, in one order or in many.

System: MADE
Source: Germain et al. 2015, arXiv:1502.03509, sections 3 and 4.
Differs: hidden units keep their degrees; only the order of the inputs changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_modules.autoregressive.discrete import Discrete
from lightning_modules.conditions import without_labels
from lightning_modules.draws import key
from lightning_modules.model import Batch, evaluating
from lightning_modules.nets.masked import MaskedMLP
from lightning_modules.optim import Adam, Optim

Draw = Callable[[Tensor, Tensor | None], Tensor]
"""(uniform values [n, D], labels [n] or None) -> levels [n, *shape]."""
ORDERS = 7
"""A counter that keeps the draws of orders apart from all other draws."""


class Ordered(MaskedMLP):
    """A masked network whose order of inputs can be changed; the degrees of the hidden units stay."""

    def set_order(self, order: Tensor) -> None:
        """Set the order of the inputs, a permutation [D]."""
        self.order.copy_(order)
        rank, last = self.order.argsort(), len(self.layers) - 1
        self.get_buffer("mask0").copy_(self.degrees[0].to(rank)[:, None] >= rank + 1)
        self.get_buffer(f"mask{last}").copy_(rank.repeat(self.outputs)[:, None] >= self.degrees[-1].to(rank))


class MADE(Discrete):
    """MADE of bits -1 and 1, [B, *shape]; with several orders, the uniform mixture of their distributions.

    Args:
        shape: of an example; it is flattened.
        hidden: units of each hidden layer.
        orders: number of random orders, one of which is drawn for each training step; 1: the order of the flattened example.
        classes, optim: as in `Discrete`.

    Raises:
        ValueError: `orders` is below 1.
    """

    orders: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        hidden: tuple[int, ...] = (500,),
        orders: int = 1,
        classes: int = 0,
        optim: Optim = Adam(),
    ) -> None:
        super().__init__(shape, levels=2, classes=classes, optim=optim)
        if orders < 1:
            raise ValueError(f"MADE needs at least 1 order, not {orders}.")
        size, rng = math.prod(shape), torch.Generator().manual_seed(0)
        drawn = [torch.randperm(size, generator=rng) for _ in range(orders)]
        self.register_buffer("orders", torch.stack(drawn) if orders > 1 else torch.arange(size)[None])
        self.net = Ordered(size, hidden, 1, cond=classes, order=self.orders[0].clone())

    @property
    def uniforms(self) -> int:
        """One for each bit, and one for the order where there are several."""
        return super().uniforms + (len(self.orders) > 1)

    def order(self) -> Tensor:
        return self.net.order

    def logits(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """[B, *shape, 2], in the current order of the network."""
        self.of_shape(x)
        odds = self.net(x.flatten(1), self.one_hot(cond)).reshape(x.shape)
        return torch.stack([torch.zeros_like(odds), odds], -1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Mean negative log probability of a bit, in nats; the whole global batch has one order, a function of seed and step."""
        if len(self.orders) > 1:
            self.net.set_order(self.orders[key(self.seed, self.draws.step, ORDERS) % len(self.orders)])
        return super().losses(batch)

    def log_prob(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Exact log probability [B] in nats, of the mixture over all orders (section 4.2).

        Args:
            x: bits [B, *shape].
            cond: labels [B].
        """
        without_labels(cond, self.classes)
        logs = []
        with evaluating(self):
            for order in self.orders:
                self.net.set_order(order)
                logs.append(self.nats(x, cond).sum(1))
        return torch.stack(logs).logsumexp(0) - math.log(len(logs))

    def sample_fast(self, uniform: Tensor, cond: Tensor | None) -> Tensor:
        return self.by_orders(self.unroll, uniform, cond)

    def sample_naive(self, uniform: Tensor, cond: Tensor | None) -> Tensor:
        return self.by_orders(super().sample_naive, uniform, cond)

    def by_orders(self, draw: Draw, uniform: Tensor, cond: Tensor | None) -> Tensor:
        """Levels [n, *shape] by a sampler; where there are several orders, the last of a row's uniform values draws its order."""
        found = torch.empty(len(uniform), *self.shape, dtype=torch.long, device=uniform.device)
        size, count = math.prod(self.shape), len(self.orders)
        drawn = (uniform[:, size] * count).long().clamp(max=count - 1) if count > 1 else found.new_zeros(len(uniform))
        uniform = uniform[:, :size]
        for i in drawn.unique().tolist():
            rows = (drawn == i).nonzero()[:, 0]
            self.net.set_order(self.orders[i])
            found[rows] = draw(uniform[rows], cond[rows] if cond is not None else None)
        return found

    def unroll(self, uniform: Tensor, cond: Tensor | None) -> Tensor:
        """Levels [n, *shape] in the current order; every unit of the network is computed once."""

        def univariate(i: int, odds: Tensor) -> Tensor:
            return (odds[:, 0].neg().sigmoid() < uniform[:, i]) * 2.0 - 1

        bits = self.net.unroll(univariate, uniform, self.one_hot(cond))
        return (bits > 0).long().view(-1, *self.shape)
