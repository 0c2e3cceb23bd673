"""IAF: the same layers as MAF's the other way round, quick to sample.

Source: Kingma et al. 2016, arXiv:1606.04934, section 3, algorithm 1.
Differs: here it is a model of data of few dimensions, whose likelihood takes D passes; as a posterior it needs none of them.
"""

from __future__ import annotations

from lightning_modules.flows.bijection import Chain, Inverse
from lightning_modules.flows.flow import Flow
from lightning_modules.flows.maf import layers


class IAF(Flow):
    """Vectors [B, D].

    Args:
        shape: (D,).
        depth: autoregressive layers.
        hidden: units of each hidden layer in each of them.
        classes, lr, warmup: as in `Flow`.
    """

    def __init__(
        self,
        shape: tuple[int],
        *,
        depth: int = 5,
        hidden: tuple[int, ...] = (100, 100),
        classes: int = 0,
        lr: float = 1e-3,
        warmup: int = 0,
    ) -> None:
        chain = Chain([Inverse(layer) for layer in layers(shape[0], depth, hidden, classes)])
        super().__init__(chain, shape, classes=classes, lr=lr, warmup=warmup)
