"""Running moments, which centre and scale observations and scale rewards.

The learner owns them: it sees every step of every runner, merges their moments after each update, and sends shift and scale along with
the weights. So acting and learning always use the same moments, and no two runners can disagree.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

CLIP = 10.0
"""Normalised values are clipped to +-CLIP, in standard deviations."""


def merge(a: tuple[Tensor, Tensor, Tensor], b: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Count [], mean and sum of squared deviations [*O] of two samples put together.

    Source: Chan, Golub and LeVeque 1979, STAN-CS-79-773, eq. 2.1.
    """
    n, shift = a[0] + b[0], b[1] - a[1]
    return n, a[1] + shift * b[0] / n, a[2] + b[2] + shift.square() * a[0] * b[0] / n


def moments(x: Tensor, mean_over_learners: Callable[[Tensor], Tensor], learners: int) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean and sum of squared deviations of x [N, *O] over all learners, which have equally many rows."""
    x = x.double()
    mean = mean_over_learners(x.mean(0))
    square = mean_over_learners((x - mean).square().sum(0)) * learners
    return torch.tensor(float(len(x) * learners), dtype=torch.float64, device=x.device), mean, square


class Moments(nn.Module):
    """Running moments of samples [*O], and the float32 shift and scale to normalise with."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("square", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    def add(self, new: tuple[Tensor, Tensor, Tensor]) -> None:
        """Add another sample's count, mean and sum of squared deviations."""
        count, mean, square = merge((self.count, self.mean, self.square), new)
        self.count.copy_(count)
        self.mean.copy_(mean)
        self.square.copy_(square)
        self.shift.copy_(mean)
        self.scale.copy_((square / count + 1e-8).rsqrt())

    def forward(self, x: Tensor) -> Tensor:
        """x [*, *O] centred and scaled."""
        return ((x - self.shift) * self.scale).clamp_(-CLIP, CLIP)


class RewardScale(nn.Module):
    """Divides rewards by the running deviation of the discounted return that each environment has had so far.

    Source: Engstrom et al. 2020, arXiv:2005.12729, section 3.
    Differs: returns restart at episode boundaries.
    """

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma, self.moments = gamma, Moments(())
        self.running: dict[str, Tensor] = {}
        """Discounted return so far of each environment and agent, by the name of their source; [B] or [B, N] each."""

    def returns(self, source: str, reward: Tensor, boundary: Tensor) -> Tensor:
        """Discounted returns so far [T, B] or [T, B, N]; the last ones are kept for the source's next fragment."""
        out, running = torch.empty_like(reward), self.running.get(source, torch.zeros_like(reward[0]))
        boundary = boundary.view(*boundary.shape, *[1] * (reward.dim() - boundary.dim()))
        for t in range(len(reward)):
            out[t] = running = self.gamma * running + reward[t]
            running = running * ~boundary[t]
        self.running[source] = running
        return out

    def restart(self, source: str, columns: Tensor) -> None:
        """Set the returns of these columns [B] bool of a source to 0."""
        if source in self.running:
            self.running[source][columns] = 0.0

    def forward(self, reward: Tensor) -> Tensor:
        """Rewards, scaled but not centred."""
        return (reward * self.moments.scale).clamp_(-CLIP, CLIP)
