"""Tones: noise through a resonance, in mu-law levels; a Markov source, whose entropy rate is known exactly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from datamodules.base import Batch, Data, Endless, test_set


def amplitudes(levels: int) -> Tensor:
    """The amplitude in [-1, 1] of each mu-law level, float64 [levels].

    Source: ITU-T G.711 with mu = levels - 1, levels evenly spaced on the companded scale.
    """
    companded = torch.linspace(-1, 1, levels, dtype=torch.float64)
    return companded.sign() * torch.expm1(companded.abs() * math.log(levels)) / (levels - 1)


def resonance(levels: int, pitch: float, damping: float, noise: float) -> Tensor:
    """P [L, L, L] of the next level given the last but one and the last: 2 r cos(2 pi pitch) b - r^2 a + noise, cut into levels.

    Args:
        pitch: in cycles per sample.
        damping: r, below 1.
        noise: standard deviation of what drives the resonance.
    """
    a = amplitudes(levels)
    companded = torch.linspace(-1, 1, levels, dtype=torch.float64)
    middle = (companded[1:] + companded[:-1]) / 2
    edges = middle.sign() * torch.expm1(middle.abs() * math.log(levels)) / (levels - 1)
    mean = 2 * damping * math.cos(2 * math.pi * pitch) * a[None, :] - damping**2 * a[:, None]
    below = torch.special.ndtr((edges - mean[..., None]) / noise)
    ends = torch.zeros(levels, levels, 1, dtype=torch.float64)
    return torch.cat([ends, below, ends + 1], 2).diff(dim=2)


def stationary(table: Tensor) -> Tensor:
    """The joint distribution [L, L] of two neighbours that P [L, L, L] leaves as it is, to 1e-13."""
    pairs = torch.full(table.shape[:2], 1 / len(table) ** 2, dtype=table.dtype)
    for _ in range(10_000):
        after = torch.einsum("ab,abc->bc", pairs, table)
        if (after - pairs).abs().sum() < 1e-13:
            return after
        pairs = after
    raise ValueError("The source of the tones does not settle: take a smaller damping or more noise.")


def entropy(p: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Entropy in nats of the distributions p along `dim`."""
    return torch.special.entr(p).sum(dim)


class Tones(Data):
    """Waves [B, length] in [-1, 1] on mu-law levels; the label is the pitch. Fresh at every step.

    Args:
        batch: global batch.
        length: samples of a wave.
        levels: of mu-law.
        pitches: in cycles per sample, one for each class.
        damping: r of the resonance, below 1.
        noise: standard deviation of what drives it.
        rate: samples per second, with which waves are written to WAV files.
    """

    def __init__(
        self,
        *,
        batch: int = 16,
        length: int = 256,
        levels: int = 64,
        pitches: tuple[float, ...] = (0.03, 0.06, 0.12),
        damping: float = 0.98,
        noise: float = 0.05,
        rate: int = 8000,
    ) -> None:
        super().__init__(batch=batch)
        self.shape, self.classes, self.levels, self.rate = (length,), len(pitches), levels, rate
        self.value = amplitudes(levels)
        self.table = torch.stack([resonance(levels, pitch, damping, noise) for pitch in pitches])
        """P [classes, L, L, L], float64."""
        self.pairs = torch.stack([stationary(table) for table in self.table])
        """[classes, L, L], float64."""
        self._ends = self.table.cumsum(3).float()
        self.source = Endless(self.draw)

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        """n waves, stationary from their first sample on."""
        label = torch.randint(self.classes, (n,), generator=rng)
        first = torch.multinomial(self.pairs.flatten(1)[label], 1, generator=rng)[:, 0]
        levels = [first // self.levels, first % self.levels]
        uniform = torch.rand(self.shape[0], n, 1, generator=rng)
        for t in range(2, self.shape[0]):
            ends = self._ends[label, levels[-2], levels[-1]]
            levels.append(torch.searchsorted(ends, uniform[t])[:, 0].clamp_(max=self.levels - 1))
        x = torch.stack(levels[: self.shape[0]], 1)
        return {"x": self.value[x].float(), "label": label}

    def test(self, n: int | None = None) -> Batch:
        return test_set(self.draw, n or 256)

    def level(self, x: Tensor) -> Tensor:
        """The level, long, of each amplitude x [B, T]."""
        return torch.bucketize(x.double().cpu().contiguous(), (self.value[1:] + self.value[:-1]) / 2)

    def log_prob(self, x: Tensor, label: Tensor) -> Tensor:
        """Exact log probability [B] of waves [B, T >= 2] given their labels, in nats, float64."""
        k, label = self.level(x), label.cpu()
        start = self.pairs[label, k[:, 0], k[:, 1]].log()
        steps = self.table[label[:, None], k[:, :-2], k[:, 1:-1], k[:, 2:]]
        return start + steps.log().sum(1)

    def rate_of_entropy(self) -> Tensor:
        """The entropy rate of each class, [classes], in bits per sample."""
        return (self.pairs * entropy(self.table, 3)).sum((1, 2)) / math.log(2)

    def entropy(self) -> float:
        """Entropy of a wave given its label, averaged over the labels, in nats."""
        first = entropy(self.pairs, (1, 2)).mean().item()
        return first + (self.shape[0] - 2) * self.rate_of_entropy().mean().item() * math.log(2)
