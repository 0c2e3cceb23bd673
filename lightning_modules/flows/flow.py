"""Normalising flows as models: trained by exact likelihood, sampled by running the bijection backwards.

Source: Papamakarios et al. 2021, arXiv:1912.02762, eq. 1 and 13.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules import objectives, optim
from lightning_modules.flows.bijection import Bijection
from lightning_modules.flows.dequantise import Variational
from lightning_modules.flows.elementwise import ActNorm
from lightning_modules.flows.linear import Mix
from lightning_modules.model import Batch, Generative, evaluating

Base = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
"""A distribution of each number by itself: its log density, and what turns uniform numbers in (0, 1) into its draws."""


def normal_log_prob(z: Tensor) -> Tensor:
    return -0.5 * (z.square() + math.log(2 * math.pi))


def logistic_log_prob(z: Tensor) -> Tensor:
    return F.logsigmoid(z) + F.logsigmoid(-z)


NORMAL: Base = (normal_log_prob, torch.special.ndtri)
LOGISTIC: Base = (logistic_log_prob, torch.logit)


class Flow(Generative):
    """Data that a bijection turns into independent numbers.

    Args:
        bijection: from examples [B, *shape] to noise [B, *D] of as many numbers.
        shape: of an example.
        noise: shape of the noise; None is that of an example.
        base: distribution of the noise's numbers: `NORMAL` or `LOGISTIC`.
        levels: of grey, evenly spaced from -1 to 1, for images that are to be dequantised by noise; 0: data are continuous.
        smear: channels of the networks that learn that noise (variational dequantisation); 0: it is even.
        classes: number of labels that condition the bijection, one-hot; 0: none.
        lr, warmup: of Adam; steps over which the learning rate rises.
    """

    def __init__(
        self,
        bijection: Bijection,
        shape: tuple[int, ...],
        *,
        noise: tuple[int, ...] | None = None,
        base: Base = NORMAL,
        levels: int = 0,
        smear: int = 0,
        classes: int = 0,
        lr: float = 1e-3,
        warmup: int = 0,
    ) -> None:
        super().__init__()
        if smear and not levels:
            raise ValueError("Noise is learned for grey levels: give levels, or no smear.")
        self.bijection, self.shape, self.noise = bijection, tuple(shape), tuple(noise or shape)
        self.base, self.levels, self.classes = base, levels, classes
        self.smear = Variational(self.shape, smear) if smear else None
        self.lr, self.warmup = lr, warmup
        self.register_buffer("fitted", torch.tensor(False))

    def suspicion(self) -> str:
        mixes = [
            n for n, m in self.bijection.named_modules() if isinstance(m, Mix) and not m.weight.slogdet()[1].isfinite()
        ]
        return f" (the matrix {mixes[0]} became singular)" if mixes else ""

    @property
    def bin(self) -> float:
        """Width of a grey level."""
        return 2 / (self.levels - 1) if self.levels else 0.0

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        if self.trainer.global_step == 0 and not self.fitted:  # to look at a buffer waits for the device
            self.fit_norms(batch)

    @torch.no_grad()
    def fit_norms(self, batch: Batch) -> None:
        """Let every ActNorm set itself by a batch, one after the other; on all workers alike.

        Raises:
            ValueError: as `fitting`, or a number is the same in all examples.
        """
        norms = [m for m in self.bijection.modules() if isinstance(m, ActNorm)]
        x = self.fitting(batch["x"], self.levels)
        if norms and len(x) > 1 and not self.levels and (same := (x == x[:1]).all(0).flatten()).any():
            which = int(same.nonzero()[0])
            raise ValueError(
                f"Number {which} of an example is {x[0].flatten()[which]:g} in the whole first batch, and ActNorm cannot set its scale "
                "by it: leave it out, or take a larger batch."
            )
        for m in norms:
            m.fitting = True
        if norms:
            self.bijection(x, self.told(batch.get("label")))
        for m in norms:
            m.fitting = False
        self.fitted.fill_(True)

    def told(self, label: Tensor | None) -> Tensor | None:
        """What the bijection is told of labels [B]."""
        return F.one_hot(label, self.classes).to(self.dtype) if self.classes and label is not None else None

    def density(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """Log density [B] of continuous x."""
        z, logdet = self.bijection(x, cond)
        return self.base[0](z).flatten(1).sum(1) + logdet

    def smeared(self, x: Tensor, even: Tensor) -> tuple[Tensor, Tensor]:
        """Grey levels spread over their bins by noise made of numbers `even` in [-1/2, 1/2), and the log density [B] of that noise."""
        noise, logs = self.smear(x, even) if self.smear is not None else (even, x.new_zeros(len(x)))
        return x + noise * self.bin, logs

    def code(self, x: Tensor, cond: Tensor | None, even: Tensor | None) -> Tensor:
        """Log density [B], or for grey levels a lower bound on the log probability, by one draw of the noise.

        Source: Flow++, eq. 12.
        """
        if even is None:
            return self.density(x, cond)
        spread, logs = self.smeared(x, even)
        return self.density(spread, cond) + x[0].numel() * math.log(self.bin) - logs

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        x = self.fitting(batch["x"], self.levels)
        even = self.draws.uniform(*x.shape, device=x.device) - 0.5 if self.levels else None
        return {"nll": -self.code(x, self.told(batch.get("label")), even).mean() / x[0].numel()}

    def log_prob(self, x: Tensor, cond: Tensor | None = None, *, rng: torch.Generator | None = None) -> Tensor:
        """Log density [B] in nats, exact; of grey levels, a lower bound on the log probability, by one draw of the noise.

        Args:
            cond: labels [B].

        Raises:
            ValueError: as `fitting`.
        """
        x = self.fitting(x, self.levels)
        even = torch.rand(x.shape, generator=rng).to(x) - 0.5 if self.levels else None
        with evaluating(self):
            return self.code(x, self.told(cond), even)

    def bits_per_dim(self, x: Tensor, *, rng: torch.Generator | None = None) -> Tensor:
        """Code length [B] of grey levels in bits per dimension; an upper bound."""
        return objectives.bits_per_dim(self.log_prob(x, rng=rng), x[0].numel())

    @torch.no_grad()
    def sample(
        self, n: int, cond: Tensor | None = None, *, rng: torch.Generator | None = None, temperature: float = 1.0
    ) -> Tensor:
        """Draws [n, *shape]; images of grey levels are rounded to them.

        Args:
            cond: labels [n].
            temperature: factor of the noise.
        """
        even = torch.rand(n, *self.noise, generator=rng, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
        z = (self.base[1](even) * temperature).to(self.device, self.dtype)
        with evaluating(self):
            x = self.bijection.inverse(z, self.told(cond)).value
        return ((x + 1) / self.bin).round().clamp(0, self.levels - 1) * self.bin - 1 if self.levels else x

    def configure_optimizers(self) -> dict[str, Any]:
        return optim.adam(self, self.lr, warmup=self.warmup)
