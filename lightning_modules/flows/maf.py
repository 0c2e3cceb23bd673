"""MAF: a chain of masked autoregressive bijections, fast to train.

System: MAF
Source: Papamakarios et al. 2017, arXiv:1705.07057, section 3.
Differs: the log scale is bounded.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.flows.autoregressive import Autoregressive
from lightning_modules.flows.bijection import Bijection, Chain
from lightning_modules.flows.elementwise import BatchNorm
from lightning_modules.flows.flow import Flow
from lightning_modules.flows.mixture import MixtureAutoregressive
from lightning_modules.nets.masked import MaskedMLP
from lightning_modules.optim import Adam, Optim


def alternating_order(size: int, i: int) -> Tensor:
    """The order [size] of the inputs in layer i: 0..size-1, reversed in every second layer."""
    return torch.arange(size).flip(0) if i % 2 else torch.arange(size)


def layers(size: int, depth: int, hidden: tuple[int, ...], cond: int) -> list[Autoregressive]:
    """Autoregressive layers of vectors [B, size], each in the reverse order of the one before.

    Args:
        size: D.
        depth: layers.
        hidden: units of each hidden layer in each of them.
        cond: features of the condition.
    """
    orders = [alternating_order(size, i) for i in range(depth)]
    return [Autoregressive(MaskedMLP(size, hidden, 2, cond=cond, order=o, activation=F.relu)) for o in orders]


class MAF(Flow):
    """MAF of vectors [B, D].

    Args:
        shape: (D,).
        depth: autoregressive layers.
        hidden: units of each hidden layer in each of them.
        norm: put batch norm after every layer.
        components: Gaussians in each conditional of a last layer of mixtures, the paper's MAF MoG; 0: there is none.
        classes, optim: as in `Flow`.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        depth: int = 5,
        hidden: tuple[int, ...] = (100, 100),
        norm: bool = False,
        components: int = 0,
        classes: int = 0,
        optim: Optim = Adam(),
    ) -> None:
        parts: list[Bijection] = []
        for layer in layers(shape[0], depth, hidden, classes):
            parts += [layer, BatchNorm(shape)] if norm else [layer]
        if components:
            order = alternating_order(shape[0], depth)
            parts.append(MixtureAutoregressive(MaskedMLP(shape[0], hidden, 3 * components, cond=classes, order=order)))
        super().__init__(Chain(parts), shape, classes=classes, optim=optim)
