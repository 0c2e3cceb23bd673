"""MAF: a chain of masked autoregressive flows, quick to train.

Source: Papamakarios et al. 2017, arXiv:1705.07057, section 3.
Differs: the log scale is bounded.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.flows.autoregressive import Autoregressive, MaskedMLP
from lightning_modules.flows.bijection import Bijection, Chain
from lightning_modules.flows.elementwise import BatchNorm
from lightning_modules.flows.flow import Flow
from lightning_modules.flows.mixture import MixtureAutoregressive


def turned(size: int, i: int) -> Tensor:
    """The order of the i-th layer: the reverse of that before it."""
    return torch.arange(size).flip(0) if i % 2 else torch.arange(size)


def layers(size: int, depth: int, hidden: tuple[int, ...], cond: int) -> list[Autoregressive]:
    """Autoregressive layers whose orders turn around, each the reverse of the one before."""
    nets = [MaskedMLP(size, hidden, 2, cond=cond, order=turned(size, i), activation=F.relu) for i in range(depth)]
    return [Autoregressive(net) for net in nets]


class MAF(Flow):
    """Vectors [B, D].

    Args:
        shape: (D,).
        depth: autoregressive layers.
        hidden: units of each hidden layer in each of them.
        norm: put batch norm after every layer.
        components: Gaussians in each conditional of a last layer of mixtures, the paper's MAF MoG; 0: there is none.
        classes, lr, warmup: as in `Flow`.
    """

    def __init__(
        self,
        shape: tuple[int],
        *,
        depth: int = 5,
        hidden: tuple[int, ...] = (100, 100),
        norm: bool = False,
        components: int = 0,
        classes: int = 0,
        lr: float = 1e-3,
        warmup: int = 0,
    ) -> None:
        parts: list[Bijection] = []
        for layer in layers(shape[0], depth, hidden, classes):
            parts += [layer, BatchNorm(shape)] if norm else [layer]
        if components:
            order = turned(shape[0], depth)
            parts.append(MixtureAutoregressive(MaskedMLP(shape[0], hidden, 3 * components, cond=classes, order=order)))
        super().__init__(Chain(parts), shape, classes=classes, lr=lr, warmup=warmup)
