"""NICE: additive couplings and one scale for each dimension.

System: NICE
Source: Dinh et al. 2015, arXiv:1410.8516, sections 3 and 5.
Differs: the halves are the first and the last dimensions, in a fixed random order, not the odd and the even ones.
"""

from __future__ import annotations

import math
from functools import partial

import torch

from lightning_modules.flows.bijection import Chain
from lightning_modules.flows.coupling import additive, alternating
from lightning_modules.flows.elementwise import Scale
from lightning_modules.flows.flow import LOGISTIC, Base, Flow
from lightning_modules.flows.images import Flatten
from lightning_modules.flows.linear import Permute
from lightning_modules.nets.conditioned import MLP
from lightning_modules.optim import Adam, Optim


class NICE(Flow):
    """NICE of examples of any shape, flattened.

    Args:
        shape: of an example.
        couplings: how many; each changes the half that the one before left as it was.
        width, depth: units and number of hidden layers of each network.
        base: distribution of the noise.
        levels, classes, optim: as in `Flow`.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        couplings: int = 4,
        width: int = 1000,
        depth: int = 5,
        base: Base = LOGISTIC,
        levels: int = 0,
        classes: int = 0,
        optim: Optim = Adam(),
    ) -> None:
        size = math.prod(shape)
        order = Permute(torch.randperm(size))
        steps = alternating(size, couplings, partial(MLP, width=width, depth=depth, cond=classes), additive)
        chain = Chain([Flatten(shape), order, *steps, Scale((size,))])
        super().__init__(chain, shape, noise=(size,), base=base, levels=levels, classes=classes, optim=optim)
