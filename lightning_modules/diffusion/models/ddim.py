"""Denoising diffusion implicit models: DDPM's network, drawn in few steps, deterministic or not, with an inverse and interpolation.

System: DDIM
Source: Song, Meng & Ermon 2021, arXiv:2010.02502, eq. 12 and 16, sections 4.3, 5.3 and 5.4, appendix D.2 (steps).
Differs: the network is given the logarithm of the noise level in place of the step's index; evenly spaced steps span both ends of the
table, and the authors' code stops short of the last level.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_modules import objectives
from lightning_modules.conditions import Cond
from lightning_modules.diffusion import preconditioning, schedules, weighting
from lightning_modules.diffusion.bound import Decoder
from lightning_modules.diffusion.denoising import Bound, Denoising, Draw, Learn, by_label
from lightning_modules.diffusion.samplers import chain
from lightning_modules.diffusion.samplers import ddim as sampling
from lightning_modules.model import evaluating
from lightning_modules.optim import Adam, Optim

Spacing = Literal["spaced", "trailing", "quadratic"]
"""Which levels of the table are visited: evenly spaced from end to end, evenly spaced from the last on, or with squares as indices."""
SPACINGS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "spaced": schedules.spaced,
    "trailing": schedules.trailing,
    "quadratic": partial(schedules.quadratic, once=True),
}


class DDIM(Denoising):
    """A model that predicts the noise at the levels of a table, see `Denoising`; without noise in its steps it has an inverse.

    Args:
        net: of an input of about unit variance, see `denoising.Net`.
        shape: of an example.
        levels: table [T] of noise levels, ascending: `schedules.linear()`.
        eta: noise of the steps: 0 none, 1 that of DDPM's posterior.
        spacing: which levels the sampler visits.
        steps: of the sampler.
        decoder: log probability of x0 at the end of the bound.
        clip: whether estimates of x0 stay in [-1, 1] when sampling; the inverse does not clip.
        label_drop: share of the labels that are hidden in training, for guidance; None: a model without labels.
        optim: of the network.

    Raises:
        ValueError: `eta` is not in [0, 1], or there is no such spacing.
    """

    def __init__(
        self,
        net: nn.Module,
        shape: tuple[int, ...],
        *,
        levels: Tensor,
        eta: float = 0.0,
        spacing: Spacing = "spaced",
        steps: int = 50,
        decoder: Decoder = objectives.gaussian_log_prob,
        clip: bool = False,
        label_drop: float | None = None,
        optim: Optim = Adam(2e-4),  # frozen
    ) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta is the noise of DDIM's steps, from 0 (none) to 1 (DDPM's), not {eta}.")
        if spacing not in SPACINGS:
            raise ValueError(f"There is no spacing '{spacing}' of steps; there are {', '.join(SPACINGS)}.")
        table, (conditions, hide) = levels.double(), by_label(label_drop)
        super().__init__(
            net,
            shape,
            level_input=torch.log,
            precondition=preconditioning.noise,
            learn=Learn(levels=partial(schedules.discrete, levels=table), weight=weighting.simple, name="noise_mse"),
            draw=Draw(
                sampler=partial(sampling.ddim, eta=eta),
                grid=partial(SPACINGS[spacing], table),
                steps=steps,
                data_std=1.0,
                clip=(-1.0, 1.0) if clip else None,
            ),
            bound=Bound(levels=table, decoder=decoder),
            conditions=conditions,
            hide=hide,
            optim=optim,
        )

    def encode(self, x: Tensor, cond: Tensor | Cond | None = None, *, steps: int | None = None) -> Tensor:
        """The latents of examples x [B, *D]: y at the highest level, from which `decode` comes back to x; section 5.4.

        Args:
            cond: conditions of the B examples, or labels [B].
            steps: None: those of the sampler.

        Raises:
            ValueError: as in `fitting`; the grid has no such number of steps.
        """
        with evaluating(self), torch.no_grad():
            return sampling.encode(self.denoiser(cond), self.fitting(x), self._grid(steps))

    def decode(self, y: Tensor, cond: Tensor | Cond | None = None, *, steps: int | None = None) -> Tensor:
        """The examples [B, *D] of latents y, by steps without noise and without clipping; the arguments are those of `encode`."""
        with evaluating(self), torch.no_grad():
            return sampling.ddim(self.denoiser(cond), y, self._grid(steps))

    def between(self, a: Tensor, b: Tensor, points: int, *, steps: int | None = None) -> Tensor:
        """Examples [B, points, *D] on the way from the latents a [B, *D] to b, evenly spaced on the great circle; section 5.3."""
        shares = torch.linspace(0, 1, points, device=a.device, dtype=a.dtype)
        starts, ends = (y.repeat_interleave(points, 0) for y in (a, b))
        found = self.decode(sampling.interpolate(starts, ends, shares.repeat(len(a))), steps=steps)
        return found.reshape(len(a), points, *self.shape)

    def latents(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """n latents [n, *D] of the prior."""
        like = torch.empty(n, *self.shape, device=self.device, dtype=self.dtype)  # type: ignore[arg-type]
        return chain.start(like, self.draw.grid(self.draw.steps), data_std=self.draw.data_std, rng=rng)

    def pictures(self, data: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """Ways between two latents in rows of eight; held-out examples, each followed by what its latents give back."""
        ways = self.between(self.latents(8, rng), self.latents(8, rng), 8)
        x = data.test(32)["x"].to(self.device)
        both = torch.stack([x, self.decode(self.encode(x))], 1)
        return {"interpolation": ways.flatten(0, 1), "reconstruction": both.flatten(0, 1)}

    def _grid(self, steps: int | None) -> Tensor:
        return self.draw.grid(self.draw.steps if steps is None else steps)
