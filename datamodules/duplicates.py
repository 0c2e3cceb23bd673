"""Examples of one part of a data set that are also in another, to the bit."""

from __future__ import annotations

import torch
from torch import Tensor

from datamodules.base import Data

MOST_VALUES = 2**24
"""Values in the training part up to which it is compared: a larger one takes long to read."""


def among(x: Tensor, others: Tensor) -> Tensor:
    """Whether each example x [N, *D] is equal to one of `others` [M, *D]: [N] bool."""
    known = {row.numpy().tobytes() for row in others.contiguous()}
    return torch.tensor([row.numpy().tobytes() in known for row in x.contiguous()], dtype=torch.bool)


def repeated(data: Data) -> int | None:
    """How many held-out examples are training examples too; None where the training part is endless, a stream or large."""
    size, width = getattr(data.source, "size", None), max(1, torch.Size(data.shape).numel())
    if size is None or size * width > MOST_VALUES or not hasattr(data.source, "first"):
        return None
    return int(among(data.test()["x"], data.seen()["x"]).sum())
