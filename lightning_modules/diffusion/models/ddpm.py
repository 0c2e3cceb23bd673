"""Denoising diffusion with the simple loss, ancestral sampling and the variational bound.

Source: Ho et al. 2020, arXiv:2006.11239, eq. 14, algorithms 1 and 2, eq. 5.
Differs: the network is told the logarithm of the noise level in place of the step's index; labels and guidance are options.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules import objectives, optim
from lightning_modules.diffusion import bound, preconditioning, samplers, schedules, weighting
from lightning_modules.model import Batch, Generative, evaluating


class DDPM(Generative):
    """Predicts the noise at the levels of a table.

    Args:
        net: (input [B, *D] of about unit variance, log level [B], label [B] or None) -> [B, *D]. One with classes must
            take the label `classes` for 'none'.
        shape: D.
        levels: table [T] of noise levels, ascending: `noise.linear()`, `noise.cosine()`.
        lr, warmup: of Adam; steps over which the learning rate rises.
        variance: of the reverse steps, `noise.posterior` or `noise.forward`.
        decoder: log probability of x0 at the end of the bound: `objectives.gaussian_log_prob` for continuous data,
            `objectives.discretised_gaussian_log_prob` for grey levels.
        clip: whether estimates of x0 stay in [-1, 1] when sampling.
        classes: number of labels; 0 learns without.
        label_drop: share of the labels that are hidden in training, for guidance.
    """

    def __init__(
        self,
        net: nn.Module,
        shape: tuple[int, ...],
        *,
        levels: Tensor,
        lr: float = 2e-4,
        warmup: int = 0,
        variance: bound.Variance = schedules.posterior,
        decoder: bound.Decoder = objectives.gaussian_log_prob,
        clip: bool = False,
        classes: int = 0,
        label_drop: float = 0.1,
    ) -> None:
        super().__init__()
        self.net, self.shape, self.lr, self.warmup = net, tuple(shape), lr, warmup
        self.variance, self.decoder, self.clip = variance, decoder, clip
        self.classes, self.label_drop = classes, label_drop
        self._levels = levels.double()

    @property
    def levels(self) -> Tensor:
        """The table [T], float64 (as a buffer it would take on the weights' precision)."""
        self._levels = self._levels.to(self.device)
        return self._levels

    def denoiser(self, cond: Tensor | None = None) -> weighting.Denoiser:
        """The denoiser given labels [B], or none."""
        if cond is None and self.classes:
            return weighting.denoiser(lambda y, s: self.net(y, s.log(), self._no_label(len(y))), preconditioning.noise)
        return weighting.denoiser(lambda y, s: self.net(y, s.log(), cond), preconditioning.noise)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        x = self.fitting(batch["x"])
        s = schedules.discrete(self.draws.uniform(len(x), device=x.device), self.levels).to(x)
        n = self.draws.normal(*x.shape, device=x.device)
        denoise = self.denoiser(self._labels(batch))
        return {"noise_mse": weighting.denoising_loss(denoise, x, s, n, weighting.simple(s)).mean()}

    def sample(
        self,
        n: int,
        cond: Tensor | None = None,
        *,
        rng: torch.Generator | None = None,
        steps: int | None = None,
        guidance: float = 0.0,
        batch: int = 256,
    ) -> Tensor:
        """Draws [n, *D], on the device of the model.

        Args:
            cond: labels [n], for a model with classes.
            steps: levels visited, evenly spaced; None: all.
            guidance: strength of classifier-free guidance; 0: none.
            batch: draws made at once.

        Raises:
            ValueError: the number of steps is not in 1..T, or labels are given to a model without classes.
        """
        if cond is not None and not self.classes:
            raise ValueError("This model was trained without labels and cannot be sampled given any.")
        grid = schedules.spaced(self.levels, steps or len(self.levels))
        parts = [None] * -(-n // batch) if cond is None else cond.to(self.device).split(batch)
        sizes = [min(batch, n - i) for i in range(0, n, batch)]
        return torch.cat([self._draw(k, c, grid, guidance, rng) for k, c in zip(sizes, parts, strict=True)])

    def _draw(self, n: int, cond: Tensor | None, grid: Tensor, guidance: float, rng: torch.Generator | None) -> Tensor:
        denoise = self.denoiser(cond)
        if guidance and cond is not None:
            denoise = samplers.guided(denoise, self.denoiser(None), guidance)
        if self.clip:
            denoise = samplers.clipped(denoise)
        y = samplers.start(grid.new_empty(n, *self.shape, dtype=self.dtype), grid, rng=rng)
        with evaluating(self):
            return samplers.ancestral(denoise, y, grid, variance=self.variance, rng=rng)

    def log_prob(
        self,
        x: Tensor,
        cond: Tensor | None = None,
        *,
        terms: int | None = None,
        rng: torch.Generator | None = None,
    ) -> Tensor:
        """A lower bound [B] on log p(x) in nats: the variational bound, one noise for each term.

        Args:
            x: [B, *D].
            terms: steps evaluated for each example, chosen without bias; None: all.
        """
        with evaluating(self):
            return bound.log_prob_bound(
                self.denoiser(cond),
                x,
                self.levels,
                variance=self.variance,
                decoder=self.decoder,
                terms=terms,
                rng=rng,
            )

    def bits_per_dim(self, x: Tensor, *, terms: int | None = None, rng: torch.Generator | None = None) -> Tensor:
        """An upper bound [B] on the code length of x in bits per dimension."""
        return objectives.bits_per_dim(self.log_prob(x, terms=terms, rng=rng), x[0].numel())

    def _no_label(self, n: int) -> Tensor:
        return torch.full((n,), self.classes, device=self.device)

    def _labels(self, batch: Batch) -> Tensor | None:
        """The labels [B] of a batch, some of them hidden."""
        if not self.classes:
            return None
        label = batch["label"]
        hidden = self.draws.uniform(len(label), device=label.device) < self.label_drop
        return label.masked_fill(hidden, self.classes)

    def configure_optimizers(self) -> dict[str, Any]:
        return optim.adam(self, self.lr, warmup=self.warmup)
