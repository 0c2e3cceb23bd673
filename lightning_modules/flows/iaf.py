"""IAF: the inverse of MAF's layers, fast to sample from.

System: IAF
Source: Kingma et al. 2016, arXiv:1606.04934, section 3, algorithm 1.
Differs: a model of data of few dimensions, whose likelihood takes D passes; as a posterior (`vae.iaf_vae`) it needs one.
"""

from __future__ import annotations

from lightning_modules.flows.bijection import Chain, Inverse
from lightning_modules.flows.flow import Flow
from lightning_modules.flows.maf import layers
from lightning_modules.optim import Adam, Optim


class IAF(Flow):
    """IAF of vectors [B, D].

    Args:
        shape: (D,).
        depth: autoregressive layers.
        hidden: units of each hidden layer in each of them.
        classes, optim: as in `Flow`.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        depth: int = 5,
        hidden: tuple[int, ...] = (100, 100),
        classes: int = 0,
        optim: Optim = Adam(),
    ) -> None:
        chain = Chain([Inverse(layer) for layer in layers(shape[0], depth, hidden, classes)])
        super().__init__(chain, shape, classes=classes, optim=optim)
