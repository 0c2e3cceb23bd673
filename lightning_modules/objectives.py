"""Losses and likelihoods as pure functions of tensors, in nats unless said."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def gaussian_kl(mean: Tensor, var: Tensor, other_mean: Tensor, other_var: Tensor) -> Tensor:
    """KL(N(mean, var) || N(other_mean, other_var)) of each number; all shapes broadcast."""
    return 0.5 * ((other_var / var).log() + var / other_var - 1 + (mean - other_mean).square() / other_var)


def gaussian_log_prob(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log density of each number."""
    return -0.5 * ((x - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)


def discretised_gaussian_log_prob(x: Tensor, mean: Tensor, std: Tensor, levels: int = 256) -> Tensor:
    """Log probability of each of the `levels` evenly spaced values x in [-1, 1] under a Gaussian cut into bins.

    A bin reaches half way to its neighbours; the outermost two reach to infinity.

    Source: Ho et al. 2020, arXiv:2006.11239, eq. 13.
    Differs: bins far from the mean keep their exact logarithm where the paper's code clamps it.
    """
    half = 1 / (levels - 1)
    low = torch.where(x < -1 + half, -math.inf, (x - half - mean) / std)
    high = torch.where(x > 1 - half, math.inf, (x + half - mean) / std)
    flip = low + high > 0  # in the left tail differences of the distribution function lose no digits
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    top = torch.special.log_ndtr(high)
    return top + torch.log1p(-(torch.special.log_ndtr(low) - top).exp())


def discretised_logistic_log_prob(x: Tensor, mean: Tensor, log_scale: Tensor, levels: int = 256) -> Tensor:
    """Log probability of each of the `levels` evenly spaced values x in [-1, 1] under a logistic cut into bins, as above.

    With a and b the ends of a bin, sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)): no digits are lost.

    Source: Kingma et al. 2016, arXiv:1606.04934, appendix C.
    Differs: the outermost bins reach to infinity, so that the probabilities sum to 1.
    """
    half = 1 / (levels - 1)
    shrink = (-log_scale).exp()
    below, above = F.logsigmoid((x + half - mean) * shrink), F.logsigmoid(-(x - half - mean) * shrink)
    inside = below + above + (-torch.expm1(-2 * half * shrink)).log()
    return torch.where(x < -1 + half, below, torch.where(x > 1 - half, above, inside))


def iwae(log_weights: Tensor) -> Tensor:
    """The importance-weighted bound [B] of log weights [k, B].

    Source: Burda et al. 2016, arXiv:1509.00519, eq. 8.
    """
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def bits_per_dim(nats: Tensor, dims: int) -> Tensor:
    """Log likelihoods in nats -> code lengths in bits per dimension."""
    return -nats / (dims * math.log(2))
