"""Parameters of a network as one vector [P].

An optimiser steps one tensor fastest; a gradient is clipped by one norm, and averaged over learners in one message.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def flatten(parameters: Sequence[nn.Parameter]) -> nn.Parameter:
    """One vector [P], with a gradient [P]; the parameters and their gradients become views of it, in order."""
    flat = nn.Parameter(torch.cat([p.detach().flatten() for p in parameters]))
    flat.grad = torch.zeros_like(flat)
    sizes = [p.numel() for p in parameters]
    for p, data, grad in zip(parameters, flat.data.split(sizes), flat.grad.split(sizes), strict=True):
        p.data, p.grad = data.view_as(p), grad.view_as(p)
    return flat
