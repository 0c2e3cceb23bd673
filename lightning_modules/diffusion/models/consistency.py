"""Consistency models: one evaluation maps y at any noise level to the data, by distillation (CD) or by training alone (CT, iCT).

System: Consistency models
Source: Song et al. 2023, arXiv:2303.01469, algorithms 2 and 3, appendix C; Song & Dhariwal 2024, arXiv:2310.14189, section 3 (iCT).
Differs: without a perceptual distance, whose network was trained on ImageNet's labels; optimised by Adam, not RAdam. The network is
given log(sigma) / 4.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.compat import lerp_
from lightning_modules.conditions import UNCONDITIONAL
from lightning_modules.diffusion import preconditioning, schedules, targets
from lightning_modules.diffusion.denoising import Bound, Denoising, Draw
from lightning_modules.diffusion.preconditioning import Denoiser, append_dims
from lightning_modules.diffusion.samplers.consistency import multistep
from lightning_modules.diffusion.samplers.edm import heun_step
from lightning_modules.model import Batch
from lightning_modules.optim import Adam, Optim

Teacher = Callable[[], Denoiser]
"""Returns a trained denoiser."""


class Noise(NamedTuple):
    """The levels between which the data are noised."""

    data_std: float = 0.5
    """Standard deviation of the data."""
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    """As `schedules.karras` takes them."""


IMAGES = Noise()
"""The paper's levels for images."""


class ConsistencyModel(Denoising):
    """A consistency function f(y, sigma), the identity at sigma_min; see `Denoising`.

    The target network, an average of the weights, is a part of the model and is saved with it. It moves before each step but the
    first, so that what a checkpoint holds decides everything.

    Args:
        net: see `denoising.Net`.
        shape: of an example.
        levels: N(k), the levels of the grid at optimiser step k.
        decay: mu(k), of the target network at step k; 0: the target is the network itself, without gradient.
        teacher: the denoiser that is distilled; None: consistency training.
        place: (u [B] in [0, 1), levels [N], ascending) -> the index [B] in 0..N-2 of the lower one of two neighbours.
        weight: (lower level [B], upper level [B]) -> weight [B] of the distance.
        distance: between answer and target.
        noise: levels of the grid.
        optim: of the network.
    """

    def __init__(
        self,
        net: nn.Module,
        shape: tuple[int, ...],
        *,
        levels: Callable[[int], int],
        decay: Callable[[int], float],
        teacher: Teacher | None = None,
        place: Callable[[Tensor, Tensor], Tensor] | None = None,
        weight: Callable[[Tensor, Tensor], Tensor] | None = None,
        distance: targets.Distance = targets.squared,
        noise: Noise = IMAGES,
        optim: Optim = Adam(4e-4),  # frozen
    ) -> None:
        data_std, sigma_min, sigma_max, rho = noise
        grid = partial(schedules.karras, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
        super().__init__(
            net,
            shape,
            level_input=preconditioning.quarter_log,
            precondition=partial(preconditioning.consistency, data_std=data_std, sigma_min=sigma_min),
            draw=Draw(
                sampler=partial(multistep, sigma_min=sigma_min),
                grid=lambda n: grid(n + 1)[[*range(n), -1]],
                steps=1,
                data_std=0.0,
                consistent=True,
            ),
            bound=Bound(levels=grid(256)[:-1].flip(0)),
            optim=optim,
        )
        self.target = copy.deepcopy(net).requires_grad_(False)
        self.grid, self.levels, self.decay, self.teacher = grid, levels, decay, teacher
        self.place, self.weight, self.distance = place or evenly, weight or ones, distance
        self._moved = 0
        """The last step before which the target network moved."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """weight times the distance of f(y_s, s) to f_target(y_r, r), s and r neighbours in the grid; algorithms 2 and 3."""
        self._move_target()
        f = self.denoiser()
        x0 = self.fitting(batch["x"])
        levels = self.grid(self.levels(self.draws.step))[:-1].flip(0).to(x0.device)
        index = self.place(self.draws.uniform(len(x0), device=x0.device), levels)
        r, s = levels[index].to(x0), levels[index + 1].to(x0)
        n = self.draws.normal(*x0.shape, device=x0.device).to(x0)
        y = x0 + append_dims(s, x0) * n
        with torch.no_grad():
            lower = heun_step(self.teacher(), y, s, r) if self.teacher else x0 + append_dims(r, x0) * n
            goal = (self._of_target if self.decay(self.draws.step) else f)(lower, r)
        loss = self.weight(r, s) * self.distance(f(y, s), goal)
        return {"consistency": loss.mean()}

    def _of_target(self, y: Tensor, sigma: Tensor) -> Tensor:
        """f with the weights of the target network."""

        def net(x: Tensor, sigma: Tensor) -> Tensor:
            return self.target(x, self.level_input(sigma), UNCONDITIONAL)

        return preconditioning.denoiser(net, self.precondition)(y, sigma)

    @torch.no_grad()
    def _move_target(self) -> None:
        """Once before each step: target = mu target + (1 - mu) network."""
        step = self.draws.step
        if step and step != self._moved:
            lerp_(list(self.target.parameters()), list(self.net.parameters()), 1 - self.decay(step - 1))
        self._moved = step


def evenly(u: Tensor, levels: Tensor) -> Tensor:
    """Every pair of neighbours equally often."""
    return (u * (len(levels) - 1)).long()


def log_normal_pairs(u: Tensor, levels: Tensor, mean: float = -1.1, std: float = 2.0) -> Tensor:
    """Pairs of neighbours by the mass that a log-normal law of the level has between them; iCT, section 3.5, eq. 10."""
    cdf = torch.special.ndtr((levels.log() - mean) / std)
    share = cdf.diff() / (cdf[-1] - cdf[0])
    return torch.searchsorted(share.cumsum(0), u.to(share), right=True).clamp(max=len(share) - 1)


def ones(r: Tensor, s: Tensor) -> Tensor:
    """Weight 1."""
    return torch.ones_like(s)


def inverse_gap(r: Tensor, s: Tensor) -> Tensor:
    """1 / (s - r); iCT, section 3.1."""
    return 1 / (s - r)


def rising(steps: int, first: int = 2, last: int = 150) -> Callable[[int], int]:
    """N(k) of consistency training: from `first` + 1 to `last` + 1 levels over K steps; appendix C."""
    return lambda k: math.ceil(math.sqrt(min(k / steps, 1.0) * ((last + 1) ** 2 - first**2) + first**2) - 1) + 1


def rising_decay(levels: Callable[[int], int], first: int = 2, decay: float = 0.9) -> Callable[[int], float]:
    """mu(k) = exp(s0 log mu0 / N(k)) of consistency training; appendix C. (The authors' code divides by N(k) - 1.)"""
    return lambda k: math.exp(first * math.log(decay) / levels(k))


def doubling(steps: int, first: int = 10, last: int = 1280) -> Callable[[int], int]:
    """N(k) of iCT: from `first` + 1 to `last` + 1 levels, doubling at even intervals of K steps; section 3.4, eq. 9."""
    each = steps // (math.floor(math.log2(last / first)) + 1)
    return lambda k: min(first * 2 ** (k // max(each, 1)), last) + 1


def consistency_distillation(
    net: nn.Module,
    shape: tuple[int, ...],
    teacher: Teacher,
    *,
    levels: int = 18,
    decay: float = 0.95,
    noise: Noise = IMAGES,
    optim: Optim = Adam(4e-4),  # frozen
) -> ConsistencyModel:
    """CD, algorithm 2: the target is one Heun step of the teacher away.

    Args:
        net: usually with the teacher's weights at first.
        shape: of an example.
        teacher: the denoiser that is distilled, of `preconditioning.edm`.
        levels: N of the grid.
        decay: mu.
        noise, optim: see `ConsistencyModel`.
    """
    return ConsistencyModel(
        net, shape, levels=lambda k: levels, decay=lambda k: decay, teacher=teacher, noise=noise, optim=optim
    )


def consistency_training(
    net: nn.Module,
    shape: tuple[int, ...],
    steps: int,
    *,
    last: int = 150,
    decay: float = 0.9,
    noise: Noise = IMAGES,
    optim: Optim = Adam(4e-4),  # frozen
) -> ConsistencyModel:
    """CT, algorithm 3: no teacher; the same noise at both levels, and a grid that becomes finer.

    Args:
        net: see `denoising.Net`.
        shape: of an example.
        steps: K, of the training.
        last: s1, levels of the last grid less 1.
        decay: mu0.
        noise, optim: see `ConsistencyModel`.
    """
    levels = rising(steps, last=last)
    mu = rising_decay(levels, decay=decay)
    return ConsistencyModel(net, shape, levels=levels, decay=mu, noise=noise, optim=optim)


def improved_training(
    net: nn.Module,
    shape: tuple[int, ...],
    steps: int,
    *,
    last: int = 1280,
    noise: Noise = IMAGES,
    optim: Optim = Adam(4e-4),  # frozen
) -> ConsistencyModel:
    """iCT: the target is the network itself, levels by a log-normal law, a pseudo-Huber distance and the weight 1 / (s - r).

    Args:
        net: see `denoising.Net`.
        shape: of an example.
        steps: K, of the training.
        last: s1, levels of the last grid less 1.
        noise, optim: see `ConsistencyModel`.
    """
    return ConsistencyModel(
        net,
        shape,
        levels=doubling(steps, last=last),
        decay=lambda k: 0.0,
        place=log_normal_pairs,
        weight=inverse_gap,
        distance=partial(targets.pseudo_huber, c=0.00054 * math.sqrt(math.prod(shape))),
        noise=noise,
        optim=optim,
    )
