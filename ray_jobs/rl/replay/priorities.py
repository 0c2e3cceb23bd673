"""Priorities of replayed steps, drawn in proportion in logarithmic time.

Source: Schaul et al. 2016, arXiv:1511.05952, section 3.3 and appendix B.2.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

SMALLEST = 1e-6
"""Added to every error, so that no step is never drawn."""


class Priorities:
    """A sum tree over `n` steps, whose parents hold the sums of their two children; all operations are on whole batches.

    Args:
        n: steps.
        alpha: exponent of the errors; 0 would be uniform.
    """

    def __init__(self, n: int, alpha: float) -> None:
        self.alpha, self.depth = alpha, max(1, (n - 1).bit_length())
        self.size = 1 << self.depth
        self.tree = np.zeros(2 * self.size)
        self.largest = 1.0

    def put(self, at: np.ndarray, mass: np.ndarray | float) -> None:
        """Set the leaves at `at` [N] and the sums above them."""
        node = at + self.size
        self.tree[node] = mass
        for _ in range(self.depth):
            node = node >> 1
            self.tree[node] = self.tree[2 * node] + self.tree[2 * node + 1]

    def renew(self, at: Tensor) -> None:
        """Give new steps at `at` [N] the largest priority so far, so that each is likely to be drawn soon."""
        self.put(at.numpy(), self.largest)

    def set(self, at: Tensor, error: Tensor) -> None:
        """Set the priorities of the steps at `at` [N] to (|error| + SMALLEST) ^ alpha."""
        mass = (error.double().numpy() + SMALLEST) ** self.alpha
        self.put(at.numpy(), mass)
        self.largest = max(self.largest, float(mass.max()))

    def draw(self, n: int, rng: torch.Generator, beta: float, held: int) -> tuple[Tensor, Tensor]:
        """Indices of n steps, one from each n-th of the mass, and their importance weights (held p)^-beta, the largest of them 1."""
        within = torch.rand(n, generator=rng, dtype=torch.float64).numpy()
        mass = (np.arange(n) + within) / n * self.tree[1]
        node = np.ones(n, np.int64)
        for _ in range(self.depth):
            node = 2 * node
            left = self.tree[node]
            right = (mass >= left) & (self.tree[node + 1] > 0)  # rounding must not lead into an empty half
            mass, node = mass - left * right, node + right
        share = self.tree[node] / self.tree[1]
        weight = (held * share) ** -beta
        return torch.from_numpy(node - self.size), torch.from_numpy((weight / weight.max()).astype(np.float32))

    def state(self) -> dict[str, Any]:
        """The leaves and the largest priority."""
        return {"leaves": torch.from_numpy(self.tree[self.size :].copy()), "largest": self.largest}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state`."""
        self.put(np.arange(self.size), state["leaves"].numpy())
        self.largest = state["largest"]
