"""Normalising flows as models: trained by exact likelihood, sampled by inverting the bijection.

Source: Papamakarios et al. 2021, arXiv:1912.02762, eq. 1 and 13.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules import draws, objectives
from lightning_modules.conditions import one_hot, without_labels
from lightning_modules.flows.bijection import Bijection, sum_features
from lightning_modules.flows.dequantise import VariationalDequantiser
from lightning_modules.flows.elementwise import ActNorm
from lightning_modules.flows.linear import InvertibleLinear, wide
from lightning_modules.model import Batch, Generative, evaluating
from lightning_modules.optim import Adam, Optim

Base = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
"""A distribution of independent values: elementwise log density, and quantile function of uniform values in (0, 1)."""


def normal_log_prob(z: Tensor) -> Tensor:
    """Log density of the standard normal distribution, elementwise."""
    return -0.5 * (z.square() + math.log(2 * math.pi))


def logistic_log_prob(z: Tensor) -> Tensor:
    """Log density of the standard logistic distribution, elementwise."""
    return F.logsigmoid(z) + F.logsigmoid(-z)


NORMAL: Base = (normal_log_prob, torch.special.ndtri)
LOGISTIC: Base = (logistic_log_prob, torch.logit)


class Flow(Generative):
    """A model of data that a bijection maps to independent noise.

    Args:
        bijection: from examples [B, *shape] to noise [B, *noise] of the same size.
        shape: of an example.
        noise: shape of the noise; None: that of an example.
        base: distribution of the noise: `NORMAL` or `LOGISTIC`.
        levels: of grey, evenly spaced from -1 to 1, for images that are dequantised by noise; 0: data are continuous.
        dequantiser: channels of the networks that learn that noise (variational dequantisation); 0: it is uniform.
        classes: number of labels that condition the bijection, one-hot; 0: none.
        optim: optimiser and schedule.
    """

    fitted: Tensor

    def __init__(
        self,
        bijection: Bijection,
        shape: tuple[int, ...],
        *,
        noise: tuple[int, ...] | None = None,
        base: Base = NORMAL,
        levels: int = 0,
        dequantiser: int = 0,
        classes: int = 0,
        optim: Optim = Adam(),
    ) -> None:
        super().__init__()
        if dequantiser and not levels:
            raise ValueError("Noise is learned for grey levels: give levels, or no dequantiser.")
        self.bijection, self.shape, self.noise = bijection, tuple(shape), tuple(noise or shape)
        self.base, self.levels, self.classes, self.optim = base, levels, classes, optim
        self.dequantiser = VariationalDequantiser(self.shape, dequantiser) if dequantiser else None
        self.register_buffer("fitted", torch.tensor(False))

    def suspicion(self) -> str:
        singular = [
            name
            for name, m in self.bijection.named_modules()
            if isinstance(m, InvertibleLinear) and not wide(m.weight).slogdet()[1].isfinite()
        ]
        return f" (the matrix {singular[0]} became singular)" if singular else ""

    @property
    def bin(self) -> float:
        """Width of a grey level."""
        return 2 / (self.levels - 1) if self.levels else 0.0

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        if self.trainer.global_step == 0 and not self.fitted:  # reading a buffer waits for the device
            self.fit_norms(self.whole_batch(batch))

    def whole_batch(self, batch: Batch) -> Batch:
        """This worker's share of the first global batch, whose first micro-batch is `batch`; the same for any number of these."""
        if self.micro_batches == 1:
            return batch
        loader: Any = self.trainer.train_dataloader
        parts = [loader.dataset[i] for i in islice(loader.sampler, self.micro_batches)]  # its items are micro-batches
        return {name: torch.cat([part[name].to(first) for part in parts]) for name, first in batch.items()}

    @torch.no_grad()
    def fit_norms(self, batch: Batch) -> None:
        """Let every ActNorm initialise itself by a worker's share of a global batch, one after the other; the same on all workers.

        Raises:
            ValueError: as `fitting`, or an entry is the same in all examples.
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
            self.bijection(x, self.one_hot(batch.get("label")))
        for m in norms:
            m.fitting = False
        self.fitted.fill_(True)

    def one_hot(self, label: Tensor | None) -> Tensor | None:
        """The bijection's condition [B, classes] of labels [B]; None for a flow without classes. Raises as `conditions.one_hot`."""
        hot = one_hot(label, self.classes, type(self).__name__)
        return None if hot is None else hot.to(self.dtype)

    def density(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """Log density [B] of continuous x: eq. 1."""
        z, logdet = self.bijection(x, cond)
        return sum_features(self.base[0](z)) + logdet

    def dequantised(self, x: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Grey levels spread over their bins by noise made of uniform values in [-1/2, 1/2), and the noise's log density [B]."""
        noise, logs = self.dequantiser(x, uniform) if self.dequantiser is not None else (uniform, x.new_zeros(len(x)))
        return x + noise * self.bin, logs

    def bound(self, x: Tensor, cond: Tensor | None, uniform: Tensor | None) -> Tensor:
        """Log density [B]; of grey levels, a lower bound on the log probability, by one draw of the noise.

        Args:
            x: examples [B, *shape].
            cond: condition [B, classes].
            uniform: values in [-1/2, 1/2) of the shape of x, of which the noise is made; None where x is continuous.

        Source: Flow++, eq. 12.
        """
        if uniform is None:
            return self.density(x, cond)
        continuous, logs = self.dequantised(x, uniform)
        return self.density(continuous, cond) + x[0].numel() * math.log(self.bin) - logs

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        x = self.fitting(batch["x"], self.levels)
        uniform = self.draws.uniform(*x.shape, device=x.device) - 0.5 if self.levels else None
        return {"nll": -self.bound(x, self.one_hot(batch.get("label")), uniform).mean() / x[0].numel()}

    def log_prob(self, x: Tensor, cond: Tensor | None = None, *, rng: torch.Generator | None = None) -> Tensor:
        """Log density [B] in nats, exact; of grey levels, a lower bound on the log probability, by one draw of the noise.

        Args:
            x: examples [B, *shape].
            cond: labels [B].
            rng: source of the noise; None: torch's own.

        Raises:
            ValueError: as `fitting`; labels are missing, or there are some and the flow has no classes.
        """
        without_labels(cond, self.classes)
        x = self.fitting(x, self.levels)
        uniform = draws.uniform(*x.shape, rng=rng).to(x) - 0.5 if self.levels else None
        with evaluating(self):
            return self.bound(x, self.one_hot(cond), uniform)

    def bits_per_dim(self, x: Tensor, *, rng: torch.Generator | None = None) -> Tensor:
        """Code length [B] of grey levels in bits per dimension; an upper bound."""
        return objectives.bits_per_dim(self.log_prob(x, rng=rng), x[0].numel())

    @torch.no_grad()
    def sample(
        self, n: int, cond: Tensor | None = None, *, rng: torch.Generator | None = None, temperature: float = 1.0
    ) -> Tensor:
        """Draws [n, *shape]; images of grey levels are rounded to them.

        Args:
            n: how many.
            cond: labels [n]; without them, a conditioned flow takes its classes in turn.
            rng: source of randomness; None: torch's own.
            temperature: factor of the noise.
        """
        without_labels(cond, self.classes)
        if self.classes and cond is None:
            cond = torch.arange(n, device=self.device) % self.classes
        uniform = draws.uniform(n, *self.noise, rng=rng, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
        z = (self.base[1](uniform) * temperature).to(self.device, self.dtype)
        with evaluating(self):
            x = self.bijection.inverse(z, self.one_hot(cond)).value
        return ((x + 1) / self.bin).round().clamp(0, self.levels - 1) * self.bin - 1 if self.levels else x
