"""Improved DDPM: the variance of the reverse steps is learned, by the hybrid objective or by the resampled bound.

System: Improved DDPM
Source: Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 15 and 16 (variance and hybrid objective), eq. 17 (cosine schedule), eq. 18
(importance sampling), section 4 (strided sampling).
Differs: the network is given the logarithm of the noise level in place of the step's index, unless `level_input` is given.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lightning_modules import objectives
from lightning_modules.conditions import Cond, as_cond
from lightning_modules.diffusion import preconditioning, schedules
from lightning_modules.diffusion.bound import Decoder, decoder_term, step_term
from lightning_modules.diffusion.denoising import Bound, Denoising, Draw, LevelInput, by_label
from lightning_modules.diffusion.preconditioning import Denoiser, append_dims
from lightning_modules.diffusion.resampling import Resampler
from lightning_modules.diffusion.steps import Gaussian, Step, reverse
from lightning_modules.model import Batch
from lightning_modules.optim import Adam, Optim


class ImprovedDDPM(Denoising):
    """DDPM whose network also answers v, the share of the larger variance in the logarithm of each step's; see `Denoising`.

    Args:
        net: its output has twice the channels of an example: the noise, then 2 v - 1.
        shape: of an example.
        levels: table [T] of noise levels, ascending: `schedules.cosine(4000)`.
        objective: 'hybrid', L_simple + 0.001 L_vlb with a mean that L_vlb does not move; or 'bound', L_vlb alone, resampled.
        decoder: log probability of x0 at the end of the bound.
        clip: whether estimates of x0 stay in [-1, 1] when sampling.
        label_drop: share of the labels that are hidden in training, for guidance; None: a model without labels.
        level_input: what the network is given about the noise level: its logarithm, or `schedules.index_of` the table.
        optim: of the network.
    """

    def __init__(
        self,
        net: nn.Module,
        shape: tuple[int, ...],
        *,
        levels: Tensor,
        objective: Literal["hybrid", "bound"] = "hybrid",
        decoder: Decoder = objectives.gaussian_log_prob,
        clip: bool = False,
        label_drop: float | None = None,
        level_input: LevelInput = torch.log,
        optim: Optim = Adam(1e-4),  # frozen
    ) -> None:
        table, (conditions, hide) = levels.double(), by_label(label_drop)
        super().__init__(
            net,
            shape,
            level_input=level_input,
            precondition=preconditioning.noise,
            draw=Draw(
                sampler=None,
                grid=partial(schedules.spaced, table),
                steps=len(table),
                data_std=1.0,
                clip=(-1.0, 1.0) if clip else None,
            ),
            bound=Bound(levels=table, decoder=decoder),
            conditions=conditions,
            hide=hide,
            optim=optim,
        )
        self.resampler = Resampler(len(table)) if objective == "bound" else None
        self._shares: WeakKeyDictionary[Cond, Tensor] = WeakKeyDictionary()
        """Of the last evaluation of the denoiser with these conditions."""
        self._seen: list[tuple[Tensor, Tensor]] = []
        """Terms and losses of the micro-batches of this step, of all workers, in the order of rows."""

    def split(self, y: Tensor, sigma: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """The estimate of x0 and the share v, each [B, *D]."""
        c_skip, c_out, c_in = (append_dims(c, y) for c in self.precondition(sigma))
        n, v = self.net(c_in * y, self.level_input(sigma), cond).chunk(2, 1)
        return c_skip * y + c_out * n, (v + 1) / 2

    def denoiser(self, cond: Tensor | Cond | None = None) -> Denoiser:
        """The denoiser D given conditions (or labels [B]), or none. In a reverse step it leaves its shares v there."""
        given = as_cond(cond)

        def denoise(y: Tensor, sigma: Tensor) -> Tensor:
            x0, self._shares[given] = self.split(y, sigma, given)
            return x0

        return denoise

    def step(self, denoise: Denoiser, cond: Cond) -> Step:
        """The reverse step with an estimate of x0, which evaluates the denoiser with these conditions."""

        def learned(y: Tensor, sigma: Tensor, sigma_next: Tensor) -> Gaussian:
            mean, _ = reverse(denoise, schedules.posterior)(y, sigma, sigma_next)
            return Gaussian(mean, self.variance(self._shares.pop(cond), sigma, sigma_next))

        return learned

    def variance(self, v: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        """Variance [B, *D] of the step for shares v [B, *D]: its logarithm is v log beta + (1 - v) log beta-tilde (eq. 15).

        Beta-tilde of the first step, which is 0, is replaced by that of the second.
        """
        first, second = self.bound.levels[:2].to(sigma)
        small = torch.where(
            sigma_next > 0,
            schedules.posterior(sigma, sigma_next),
            schedules.posterior(second, first) / (1 + first**2),
        )
        low, high = (append_dims(x.log(), v).to(v.device) for x in (small, schedules.forward(sigma, sigma_next)))
        return (v * high + (1 - v) * low).exp()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """L_simple and 0.001 L_vlb of eq. 16; or L_vlb alone. L_vlb counts in bits per dimension."""
        x0 = self.fitting(batch["x"])
        levels, cond = self.bound.levels.to(x0.device), self._some_hidden(self.conditions(batch))
        u, terms = self.draws.uniform(len(x0), device=x0.device), len(levels)
        index, weight = self.resampler.draw(u) if self.resampler else ((u * terms).long(), torch.ones_like(u))
        n = self.draws.normal(*x0.shape, device=x0.device).to(x0)
        sigma = levels[index].to(x0)
        answer, v = self.split(x0 + append_dims(sigma, x0) * n, sigma, cond)
        if self.resampler:
            vlb = self.term(x0, n, index, answer, v)
            self._remember(index, vlb)
            return {"bound": (weight.to(vlb) * vlb).mean()}
        simple = (answer - x0).square().flatten(1).mean(1) / sigma**2
        return {"noise_mse": simple.mean(), "bound": 0.001 * terms * self.term(x0, n, index, answer.detach(), v).mean()}

    def term(self, x0: Tensor, n: Tensor, index: Tensor, answer: Tensor, v: Tensor) -> Tensor:
        """The terms [B] of the bound with these indices, in bits per dimension, for estimates of x0 and shares v, each [B, *D]."""
        levels = self.bound.levels.to(x0.device)
        sigma, below = levels[index], torch.cat([levels[:1] / 2, levels])[index]  # the first term has no step below it

        def step_of(estimate: Tensor) -> Step:
            def step(y: Tensor, sigma: Tensor, sigma_next: Tensor) -> Gaussian:
                mean, _ = reverse(lambda y, sigma: estimate, schedules.posterior)(y, sigma, sigma_next)
                return Gaussian(mean, self.variance(v, sigma, sigma_next))

            return step

        later = step_term(step_of(answer), x0, sigma, below, n)
        of_first = torch.where(
            append_dims(index == 0, x0), answer, x0
        )  # other rows are no estimates for the decoder's level
        first = decoder_term(step_of(of_first), x0, levels[0], n, self.bound.decoder)
        return torch.where(index > 0, later, first).to(x0) / (math.log(2) * x0[0].numel())

    def _remember(self, index: Tensor, loss: Tensor) -> None:
        index, loss = index.detach(), loss.detach()
        if self._fabric is None and self._trainer is not None and self.trainer.world_size > 1:
            index, loss = (self.all_gather(x).flatten() for x in (index, loss))
        self._seen.append((index, loss))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Add the losses of the whole global batch to the resampler's history, once a step."""
        super().on_before_optimizer_step(optimizer)
        for index, loss in self._seen:
            self.resampler.add(index, loss)  # type: ignore[union-attr]  # nothing is remembered without one
        self._seen = []
