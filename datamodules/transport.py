"""Examples paired with noise by optimal transport within each global batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from datamodules.base import Batch, Source, generator


def assignment(x: Tensor, n: Tensor) -> Tensor:
    """The permutation [B] of noise n [B, *D] that makes the summed squared distance to examples x [B, *D] least."""
    cost = torch.cdist(x.flatten(1).double(), n.flatten(1).double()).square()
    return torch.from_numpy(linear_sum_assignment(cost.numpy())[1])


@dataclass
class Transported:
    """A source whose batches hold 'noise' too, standard normal and paired with 'x' by `assignment`.

    The pairs are those of the whole global batch, so they depend neither on how many workers share it nor on accumulation.

    Source: Tong et al. 2024, arXiv:2302.00482, section 3.2, algorithm 3.
    """

    source: Source

    def rows(self, seed: int, step: int, batch: int, first: int, last: int) -> Batch:
        """Rows first..last-1 of the global batch."""
        whole = self.source.rows(seed, step, batch, 0, batch)
        n = torch.randn(whole["x"].shape, generator=generator(seed, step, 2**31))
        whole["noise"] = n[assignment(whole["x"], n)]
        return {name: column[first:last] for name, column in whole.items()}
