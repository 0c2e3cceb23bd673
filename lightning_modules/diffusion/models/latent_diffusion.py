"""Latent diffusion: an autoencoder makes images small, and a diffusion learns its latents.

System: Latent diffusion
Source: Rombach et al. 2022, arXiv:2112.10752, eq. 2 and 3, section 3.3, appendix G (scale of the latents).
Differs: the scale is that of a fixed batch, the first of the run, and so the same on all workers; conditions of cross-attention are joined
to the keys and values of self-attention, as in GLIDE, where the paper has layers of their own, and feed-forward ones; the network is given
the logarithm of the noise level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from lightning_modules.conditions import Cond
from lightning_modules.diffusion import preconditioning, schedules, weighting
from lightning_modules.diffusion.denoising import Bound, Denoising, Draw, Learn, unconditional
from lightning_modules.diffusion.samplers.ddim import ddim
from lightning_modules.diffusion.spaces import Space
from lightning_modules.draws import Draws
from lightning_modules.model import Batch, Generative
from lightning_modules.optim import Adam, Optim
from lightning_modules.staged import Stage, Staged

AUTOENCODER, PRIOR = "autoencoder", "prior"
"""Names of the two stages."""
SCALED_BY = 256
"""Examples of the first batch, at most, by which latents are scaled."""
AT_ONCE = 64
"""Examples that are encoded or decoded at once."""


class Moments(Space, Protocol):
    """A first stage whose latents are drawn from the moments of an example."""

    def moments(self, x: Tensor) -> Tensor:
        """All that the latents of x [B, *D] are drawn from, [B, *]."""
        ...

    def draw(self, moments: Tensor, draws: Draws) -> Tensor:
        """Latents of these moments."""
        ...


class Latents(nn.Module):
    """The space of a first stage's latents, times a scale that is saved with the model.

    Args:
        first: the first stage, usually an `nn.Module`.
        scale: factor of the latents, 1 until it is measured.
    """

    def __init__(self, first: Moments, scale: float = 1.0) -> None:
        super().__init__()
        self.first = first
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(scale))

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the first stage."""
        return self.first.latent_shape(shape)

    def encode(self, x: Tensor, draws: Draws) -> Tensor:
        """Scaled latents of examples [B, *D]."""
        return self.of_moments(self.first.moments(x), draws)

    def of_moments(self, moments: Tensor, draws: Draws) -> Tensor:
        """Scaled latents, drawn from the moments of examples."""
        return self.scale * self.first.draw(moments, draws)

    def decode(self, z: Tensor) -> Tensor:
        """Examples [B, *D] of scaled latents."""
        return torch.cat([self.first.decode(part / self.scale) for part in z.split(AT_ONCE)])

    @torch.no_grad()
    def measure(self, x: Tensor, draws: Draws) -> None:
        """Set the scale to one over the standard deviation of the latents of x [B, *D], all entries together.

        Raises:
            ValueError: the latents are all alike, or not finite.
        """
        self.eval()
        z = self.first.draw(torch.cat([self.first.moments(part) for part in x.split(AT_ONCE)]), draws)
        std = z.double().std()
        if not 0 < std < torch.inf:
            raise ValueError(
                f"The latents of the first stage have the standard deviation {std:g}, so nothing can be learned of them."
            )
        self.scale.copy_(1 / std)


def latent_diffusion(
    net: nn.Module,
    shape: tuple[int, ...],
    space: Space,
    *,
    levels: Tensor | None = None,
    steps: int = 250,
    eta: float = 0.0,
    conditions: Callable[[Batch], Cond] = unconditional,
    hide: Mapping[str, float] | None = None,
    optim: Optim = Adam(1e-4),  # frozen
) -> Denoising:
    """A diffusion that predicts the noise in latents, sampled by DDIM.

    Args:
        net: of latents of about unit variance, see `denoising.Net`.
        shape: of an example, before the first stage.
        space: of the latents, such as `Latents` of an autoencoder.
        levels: table [T] of noise levels, ascending; None: `schedules.scaled_linear()`.
        steps: of the sampler.
        eta: of DDIM: 0 without noise, 1 with that of the posterior.
        conditions: batch -> conditions of the model: a label, or the tokens of a text that attention sees.
        hide: condition -> share of the examples for which it is hidden in training, so that it can be guided.
        optim: of the network.
    """
    table = schedules.scaled_linear() if levels is None else levels.double()
    return Denoising(
        net,
        shape,
        level_input=torch.log,
        precondition=preconditioning.noise,
        learn=Learn(levels=partial(schedules.discrete, levels=table), weight=weighting.simple, name="noise_mse"),
        draw=Draw(
            sampler=partial(ddim, eta=eta) if eta else ddim,
            grid=partial(schedules.spaced, table),
            steps=min(steps, len(table)),
            data_std=1.0,
        ),
        bound=Bound(levels=table),
        space=space,
        conditions=conditions,
        hide=hide,
        optim=optim,
    )


def in_two_stages(first: Generative, prior: Denoising, *, first_steps: int, steps: int, rescale: bool = True) -> Staged:
    """The autoencoder, and then the diffusion of its latents.

    Args:
        first: the first stage; it is the one that the prior's space, `Latents`, holds.
        prior: the diffusion.
        first_steps: optimiser steps of the first stage; 0 where it comes from another run.
        steps: of both.
        rescale: whether the latents' scale is measured in between. The paper does not scale those of a codebook.

    Raises:
        ValueError: the first stage takes more steps than there are.
    """
    if first_steps >= steps:
        raise ValueError(
            f"The autoencoder trains for {first_steps} of {steps} steps, which leaves none for the prior: take fewer."
        )
    stages = (
        Stage(AUTOENCODER, first, first_steps, measure_scale if rescale else None),
        Stage(PRIOR, prior, steps - first_steps),
    )
    return Staged(stages)


def measure_scale(model: nn.Module) -> None:
    """The hand-over that scales the latents by the first examples of the run, `SCALED_BY` at most; see `Latents.measure`."""
    assert isinstance(model, Staged)
    space, data = model.prior.space, model.trainer.datamodule  # type: ignore[attr-defined, union-attr]
    x = data.source.rows(model.seed, 0, data.batch, 0, min(data.batch, SCALED_BY))["x"]
    space.measure(x.to(model.device), Draws(model.seed))
    if model.trainer.world_size > 1:
        space.scale.copy_(model.trainer.strategy.broadcast(space.scale))
