"""Waves of known probability, by their names: tones, tones of a hidden changing pitch, and echoes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from datamodules.base import Batch, Data, Endless, test_set
from datamodules.labs.tones import Tones, amplitudes


class Switching(Tones):
    """Waves [B, length] of one resonance among several, whose hidden pitch may change at every sample.

    The likelihood sums over all sequences of pitches: the forward recursion of hidden Markov models.

    Args:
        batch: global batch.
        stay: probability with which the pitch stays for the next sample; else a new one is drawn.
        length, levels, noise: as in `Tones`.

    Source: Rabiner 1989, "A tutorial on hidden Markov models", eq. 18 to 21.
    """

    def __init__(
        self, *, batch: int = 16, stay: float = 0.98, length: int = 256, levels: int = 32, noise: float = 0.1
    ) -> None:
        super().__init__(batch=batch, length=length, levels=levels, pitches=(0.03, 0.12, 0.25), noise=noise)
        self.stay, self.kinds, self.classes = stay, self.classes, 0

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        """n waves; the first two samples are drawn from the stationary distribution."""
        kind = torch.randint(self.kinds, (n,), generator=rng)
        first = torch.multinomial(self.pairs.flatten(1)[kind], 1, generator=rng)[:, 0]
        levels = [first // self.levels, first % self.levels]
        uniform = torch.rand(2, self.shape[0], n, 1, generator=rng)
        fresh = torch.randint(self.kinds, (self.shape[0], n), generator=rng)
        for t in range(2, self.shape[0]):
            kind = torch.where(uniform[1, t, :, 0] < self.stay, kind, fresh[t])
            ends = self._ends[kind, levels[-2], levels[-1]]
            levels.append(torch.searchsorted(ends, uniform[0, t])[:, 0].clamp_(max=self.levels - 1))
        return {"x": self.value[torch.stack(levels, 1)].float()}

    def log_prob(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Exact log probability [B] of waves [B, T >= 2] in nats, float64."""
        k = self.level(x)
        logs = self.pairs[:, k[:, 0], k[:, 1]].log().T - math.log(self.kinds)
        steps = self.table[:, k[:, :-2], k[:, 1:-1], k[:, 2:]].log()
        for t in range(steps.shape[2]):
            switched = math.log(1 - self.stay) - math.log(self.kinds) + logs.logsumexp(1, keepdim=True)
            logs = torch.logaddexp(logs + math.log(self.stay), switched) + steps[:, :, t].T
        return logs.logsumexp(1)


class Echoes(Data):
    """Waves [B, length] in [-1, 1] on mu-law levels; each sample repeats the one `lag` before it, or is a step away from the last.

    Args:
        batch: global batch.
        length: samples of a wave.
        levels: of mu-law.
        lag: samples after which an echo comes.
        echo: its probability.
        spread: deviation of a step, in levels.
        rate: samples per second, with which waves are written to WAV files.
    """

    classes = 0

    def __init__(
        self,
        *,
        batch: int = 16,
        length: int = 256,
        levels: int = 32,
        lag: int = 24,
        echo: float = 0.7,
        spread: float = 2.0,
        rate: int = 8000,
    ) -> None:
        super().__init__(batch=batch)
        self.shape, self.levels, self.rate, self.lag, self.echo = (length,), levels, rate, lag, echo
        self.value = amplitudes(levels)
        place = torch.arange(levels).double()
        self.step = (-((place[:, None] - place) ** 2) / (2 * spread**2)).softmax(1)
        """P [levels, levels] of the next level given the last, where there is no echo, float64."""
        self.source = Endless(self.draw)

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        """n waves; the first sample is uniform, and there are no echoes before `lag` samples."""
        ends, found = self.step.cumsum(1), [torch.randint(self.levels, (n,), generator=rng)]
        uniform = torch.rand(2, self.shape[0], n, 1, generator=rng, dtype=torch.float64)
        for t in range(1, self.shape[0]):
            fresh = torch.searchsorted(ends[found[-1]], uniform[0, t])[:, 0].clamp_(max=self.levels - 1)
            found.append(
                torch.where(uniform[1, t, :, 0] < self.echo, found[-self.lag], fresh) if t >= self.lag else fresh
            )
        return {"x": self.value[torch.stack(found, 1)].float()}

    def test(self, n: int | None = None) -> Batch:
        return test_set(self.draw, n or 256)

    def log_prob(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Exact log probability [B] of waves [B, T] in nats, float64."""
        k = torch.bucketize(x.double().cpu().contiguous(), (self.value[1:] + self.value[:-1]) / 2)
        p = self.step[k[:, :-1], k[:, 1:]]
        late = p[:, self.lag - 1 :]
        late = self.echo * (k[:, self.lag :] == k[:, : -self.lag]).double() + (1 - self.echo) * late
        return torch.cat([p[:, : self.lag - 1], late], 1).log().sum(1) - math.log(self.levels)


WAVES = {"tones": Tones, "switching": Switching, "echoes": Echoes}
"""Waves by name."""


def waves(name: str, *, batch: int = 16) -> Tones | Switching | Echoes:
    """The source of a name.

    Raises:
        ValueError: there is none.
    """
    if name not in WAVES:
        raise ValueError(f"There are no waves '{name}'; allowed: {', '.join(WAVES)}.")
    return WAVES[name](batch=batch)
