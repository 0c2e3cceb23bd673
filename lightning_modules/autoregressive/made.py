"""MADE: a masked autoencoder that tells each of a vector's bits from those before it, in one order or in many.

Source: Germain et al. 2015, arXiv:1502.03509, sections 3 and 4.
Differs: hidden units keep their degrees; only the order of the inputs changes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_modules.autoregressive.discrete import Discrete
from lightning_modules.draws import key
from lightning_modules.flows.autoregressive import MaskedMLP
from lightning_modules.model import Batch, evaluating

ORDERS = 7  # a counter that sets the draws of orders apart from all others


class Ordered(MaskedMLP):
    """A masked network whose order of inputs can be changed."""

    def turn(self, order: Tensor) -> None:
        """From now on, inputs come in this order: a permutation [D]."""
        self.order.copy_(order)
        place, last = self.order.argsort(), len(self.layers) - 1
        self.get_buffer("mask0").copy_(self.seen[0].to(place)[:, None] >= place + 1)
        self.get_buffer(f"mask{last}").copy_(place.repeat(self.outputs)[:, None] >= self.seen[-1].to(place))


class MADE(Discrete):
    """Bits -1 and 1, [B, *shape]; with several orders, the even mixture of the distributions that they give.

    Args:
        shape: of an example; it is flattened.
        hidden: units of each hidden layer.
        orders: how many orders take turns at random in training; with 1, bits come as they are.
        classes, lr, warmup: as in `Discrete`.

    Raises:
        ValueError: no order.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        hidden: tuple[int, ...] = (500,),
        orders: int = 1,
        classes: int = 0,
        lr: float = 1e-3,
        warmup: int = 0,
    ) -> None:
        super().__init__(shape, levels=2, classes=classes, lr=lr, warmup=warmup)
        if orders < 1:
            raise ValueError(f"MADE needs at least 1 order, not {orders}.")
        size, rng = math.prod(shape), torch.Generator().manual_seed(0)
        drawn = [torch.randperm(size, generator=rng) for _ in range(orders)]
        self.register_buffer("orders", torch.stack(drawn) if orders > 1 else torch.arange(size)[None])
        self.net = Ordered(size, hidden, 1, cond=classes, order=self.orders[0].clone())

    def places(self) -> Tensor:
        return self.net.order

    def logits(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """[B, *shape, 2], in the order that the network has now."""
        self.of_shape(x)
        odds = self.net(x.flatten(1), self.told(cond)).reshape(x.shape)
        return torch.stack([torch.zeros_like(odds), odds], -1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """One order for the whole global batch, a function of the seed and the step."""
        if len(self.orders) > 1:
            self.net.turn(self.orders[key(self.seed, self.draws.step, ORDERS) % len(self.orders)])
        return super().losses(batch)

    def log_prob(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Exact log probability [B] in nats, of the mixture over all orders (section 4.2).

        Args:
            cond: labels [B].
        """
        logs = []
        with evaluating(self):
            for order in self.orders:
                self.net.turn(order)
                logs.append(self.nats(x, cond).sum(1))
        return torch.stack(logs).logsumexp(0) - math.log(len(logs))

    def fill(self, even: Tensor, cond: Tensor | None) -> Tensor:
        return self.by_orders(self.unroll, even, cond)

    def naive(self, even: Tensor, cond: Tensor | None) -> Tensor:
        return self.by_orders(super().naive, even, cond)

    def by_orders(self, draw, even: Tensor, cond: Tensor | None) -> Tensor:
        """Each order draws an equal share of the rows, to one."""
        found = torch.empty(len(even), *self.shape, dtype=torch.long, device=even.device)
        for i, order in enumerate(self.orders[: len(even)]):
            rows = slice(i, None, len(self.orders))
            self.net.turn(order)
            found[rows] = draw(even[rows], cond[rows] if cond is not None else None)
        return found

    def unroll(self, even: Tensor, cond: Tensor | None) -> Tensor:
        """Every unit of the network is computed once."""

        def bit(i: int, odds: Tensor) -> Tensor:
            return (odds[:, 0].neg().sigmoid() < even[:, i]) * 2.0 - 1

        bits = self.net.unroll(bit, even, self.told(cond))
        return (bits > 0).long().view(-1, *self.shape)
