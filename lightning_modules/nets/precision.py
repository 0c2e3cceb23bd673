"""The number format in which a network computes inside."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def autocast(x: Tensor, bf16: bool) -> AbstractContextManager[Any]:
    """The context of a network's inside for the input x: bfloat16, or float32 whatever surrounds it.

    Tensors without memory (device meta) know no such context, and keep the format of the weights.
    """
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, torch.bfloat16, enabled=bf16)
