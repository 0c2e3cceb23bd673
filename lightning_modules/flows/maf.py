"""MAF: a chain of masked autoregressive flows, quick to train.

Source: Papamakarios et al. 2017, arXiv:1705.07057, section 3.
Differs: the log scale is bounded.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .autoregressive import Autoregressive, MaskedMLP
from .bijection import Bijection, Chain
from .elementwise import BatchNorm
from .flow import Flow


def layers(size: int, depth: int, hidden: tuple[int, ...], cond: int) -> list[Autoregressive]:
    """Autoregressive layers whose orders turn around, each the reverse of the one before."""
    orders = [torch.arange(size), torch.arange(size).flip(0)]
    nets = [MaskedMLP(size, hidden, 2, cond=cond, order=orders[i % 2], activation=F.relu) for i in range(depth)]
    return [Autoregressive(net) for net in nets]


class MAF(Flow):
    """Vectors [B, D].

    Args:
        shape: (D,).
        depth: autoregressive layers.
        hidden: units of each hidden layer in each of them.
        norm: put batch norm after every layer.
        classes, lr, warmup: as in `Flow`.
    """

    def __init__(
        self,
        shape: tuple[int],
        *,
        depth: int = 5,
        hidden: tuple[int, ...] = (100, 100),
        norm: bool = False,
        classes: int = 0,
        lr: float = 1e-3,
        warmup: int = 0,
    ) -> None:
        parts: list[Bijection] = []
        for layer in layers(shape[0], depth, hidden, classes):
            parts += [layer, BatchNorm(shape)] if norm else [layer]
        super().__init__(Chain(parts), shape, classes=classes, lr=lr, warmup=warmup)
