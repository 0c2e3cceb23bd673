"""Stein variational gradients: n vectors of parameters that climb together and keep apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rbf(theta: Tensor) -> tuple[Tensor, Tensor]:
    """The kernel k_ji = exp(-|theta_j - theta_i|^2 / h) [n, n] of theta [n, P], and sum_j of its gradient by theta_j, [n, P].

    h = med^2 / log(n + 1), with med the (lower) median distance between two different rows, taken as a constant: then the kernels of a
    row with the others come to about 1 together. Rows that all coincide have h = 1.

    Source: Liu & Wang 2016, arXiv:1608.04471, section 4.
    Differs: log(n + 1) in place of log n, which is 0 for a single row.
    """
    n = len(theta)
    square = torch.cdist(theta, theta, compute_mode="donot_use_mm_for_euclid_dist").square_()
    apart = square[torch.triu(torch.ones_like(square), 1) > 0]
    median = apart.median() if n > 1 else square[0, 0]
    scale = torch.where(median > 0, math.log(n + 1) / median, 1.0)  # 1 / h
    kernel = (-scale * square).exp_()
    return kernel, 2 * scale * torch.addmm(kernel.sum(0)[:, None] * theta, kernel, theta, alpha=-1)


def direction(theta: Tensor, grad: Tensor, temperature: float) -> Tensor:
    """Where each row of theta [n, P] is to go, [n, P]; `grad` [n, P] is the gradient of each one's expected return.

    The rows then come to sample exp(J / temperature): hot ones keep apart, cold ones climb. The prior over parameters is flat; for
    another, add `temperature` times the gradient of its logarithm to `grad`.

    Source: Liu et al. 2017, arXiv:1704.02399, eq. 10 and 11.

    Raises:
        ValueError: theta and grad are not matrices of one shape, or the temperature is not positive.
    """
    if theta.dim() != 2 or theta.shape != grad.shape:
        raise ValueError(f"theta and grad must both be [n, P], and are {tuple(theta.shape)} and {tuple(grad.shape)}.")
    if temperature <= 0:
        raise ValueError(f"The temperature must be above 0, and is {temperature}.")
    kernel, repulsion = rbf(theta)
    return torch.addmm(repulsion, kernel, grad, alpha=1 / temperature) / len(theta)
