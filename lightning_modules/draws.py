"""Random numbers of a training, each a pure function of the seed, the step and the row of the global batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def key(*counters: int) -> int:
    """A seed in [0, 2^63) that is a pure function of `counters` (each >= 0); a zero at the end does not count."""
    return int(np.random.SeedSequence(counters).generate_state(1, np.uint64)[0] >> 1)


@dataclass
class Draws:
    """Random numbers of one micro-batch: the i-th draw is a pure function of (seed, step, i).

    Each draw is made for the whole global batch, and this worker keeps its own rows. So the numbers that are used for an
    example depend only on its row in the global batch: not on how many workers share the batch, not on how many
    micro-batches it is cut into, and not on what was drawn in earlier steps. Nothing has to be saved to resume.

    Args:
        seed: of the run, >= 0.
        step: optimiser steps done.
        part, parts: the global batch is cut into `parts` equal contiguous slices; this one is number `part`.
        count: draws made so far.
    """

    seed: int = 0
    step: int = 0
    part: int = 0
    parts: int = 1
    count: int = 0

    def normal(self, *shape: int, device: torch.device | str = "cpu") -> Tensor:
        """Standard normal numbers [B, *D], B the rows of this micro-batch on this worker."""
        return self._rows(lambda s, g: torch.randn(s, generator=g, device=device), shape, device)

    def uniform(self, *shape: int, device: torch.device | str = "cpu") -> Tensor:
        """Uniform numbers in [0, 1), [B, *D]."""
        return self._rows(lambda s, g: torch.rand(s, generator=g, device=device), shape, device)

    def integers(self, high: int, *shape: int, device: torch.device | str = "cpu") -> Tensor:
        """Uniform integers in 0..high-1, [B, *D], long."""
        return self._rows(lambda s, g: torch.randint(high, s, generator=g, device=device), shape, device)

    def _rows(self, draw: Callable[..., Tensor], shape: tuple[int, ...], device: torch.device | str) -> Tensor:
        rng = torch.Generator(device).manual_seed(key(self.seed, self.step, self.count))
        self.count += 1
        rows = shape[0]
        whole = draw((rows * self.parts, *shape[1:]), rng)
        return whole[rows * self.part : rows * (self.part + 1)]


def normal(*shape: int, rng: torch.Generator | None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers on the device of `rng`, the only one that it draws on; by torch's own generator on the CPU without."""
    return torch.randn(shape, generator=rng, device=place(rng), dtype=dtype)


def uniform(*shape: int, rng: torch.Generator | None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform numbers in [0, 1) where `normal` draws."""
    return torch.rand(shape, generator=rng, device=place(rng), dtype=dtype)


def place(rng: torch.Generator | None) -> torch.device:
    """The device on which `rng` draws."""
    return rng.device if rng is not None else torch.device("cpu")


def reseed(seed: int, device: torch.device) -> None:
    """Seed torch's generators for layers on `device`. (`torch.manual_seed` takes 0.1 ms, for it seeds those of all devices.)"""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
