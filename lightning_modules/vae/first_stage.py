"""First stages: autoencoders in whose latents another model learns, such as a diffusion.

Source: Rombach et al. 2022, arXiv:2112.10752, section 3.1.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.conditions import Cond, without_labels
from lightning_modules.draws import Draws, normal
from lightning_modules.model import Batch, Generative, evaluating
from lightning_modules.optim import Adam, Optim

Distance = Callable[[Tensor, Tensor], Tensor]
"""(x [B, *D], reconstruction [B, *D]) -> distance [B]."""


def absolute(x: Tensor, other: Tensor) -> Tensor:
    """Absolute error [B], the mean over entries."""
    return (x - other).abs().flatten(1).mean(1)


def squared(x: Tensor, other: Tensor) -> Tensor:
    """Squared error [B], the mean over entries."""
    return (x - other).square().flatten(1).mean(1)


class Reconstruction(NamedTuple):
    """What an autoencoder makes of a batch."""

    x: Tensor
    """[B, *D]."""
    terms: dict[str, Tensor]
    """Losses [] of the latents, by name."""


class FirstStage(Generative):
    """An autoencoder that is also a space (`diffusion.denoising.Space`): x -> latents -> x.

    The encoder's outputs for an example, its moments, do not change once the training ends, so they can be computed once and kept
    (`datamodules.latents`); latents are drawn from them.

    Args:
        encoder: x [B, *shape] -> outputs [B, *].
        decoder: latents [B, *latents] -> x.
        shape: of an example.
        latents: shape of an example's latents.
        distance: of an example to its reconstruction, `absolute` in the paper.
        perceptual: a further distance that is added to it, by a network that does not train; None: none.
        optim: of encoder and decoder.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        shape: tuple[int, ...],
        latents: tuple[int, ...],
        *,
        distance: Distance = absolute,
        perceptual: Distance | None = None,
        optim: Optim = Adam(),
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.shape, self.latents, self.optim = tuple(shape), tuple(latents), optim
        self.distance = distance
        self._perceptual = (perceptual,)  # in a tuple: a network in there is no part of this model

    # ---- the space

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the latents of an example.

        Raises:
            ValueError: examples of this shape are not the model's.
        """
        if tuple(shape) != self.shape:
            raise ValueError(f"{type(self).__name__} was built for examples of shape {self.shape}, not {tuple(shape)}.")
        return self.latents

    @abstractmethod
    def moments(self, x: Tensor) -> Tensor:
        """All that the latents of x [B, *shape] are drawn from, [B, *]."""

    @abstractmethod
    def draw(self, moments: Tensor, draws: Draws) -> Tensor:
        """Latents [B, *latents], drawn from moments."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """The example [B, *shape] of latents."""

    def encode(self, x: Tensor, draws: Draws) -> Tensor:
        """Latents [B, *latents] of x [B, *shape]."""
        return self.draw(self.moments(x), draws)

    # ---- training

    @abstractmethod
    def reconstruct(self, x: Tensor) -> Reconstruction:
        """Encode x [B, *shape] with this step's random numbers, and decode it."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The distance to the reconstruction, and the losses of the latents."""
        x = self.fitting(batch["x"])
        made = self.reconstruct(x)
        return self.distances(x, made.x) | made.terms

    def distances(self, x: Tensor, other: Tensor) -> dict[str, Tensor]:
        """The distances [] of examples to their reconstructions, means over the batch."""
        (perceptual,) = self._perceptual
        found = {"reconstruction": self.distance(x, other).mean()}
        return found if perceptual is None else found | {"perceptual": perceptual(x, other).mean()}

    @property
    def last_weight(self) -> Tensor:
        """The weights of the decoder's last layer."""
        return [p for p in self.decoder.parameters() if p.ndim > 1][-1]

    # ---- use

    @abstractmethod
    def prior(self, n: int, rng: torch.Generator | None) -> Tensor:
        """Latents [n, *latents] that know nothing of the data."""

    @torch.no_grad()
    def sample(self, n: int, cond: Tensor | Cond | None = None, *, rng: torch.Generator | None = None) -> Tensor:
        """Decoded draws [n, *shape] of `prior`. They look like the data only once another model has learned the latents.

        Raises:
            ValueError: labels are given.
        """
        without_labels(cond)
        with evaluating(self):
            return torch.cat([self.decode(z) for z in self.prior(n, rng).split(64)])

    @torch.no_grad()
    def pictures(self, data: Any, rng: torch.Generator) -> dict[str, Tensor]:
        """Rows of eight held-out examples, repeated where they are fewer than 32, over their reconstructions."""
        x = data.test(32)["x"].to(self.device)
        x = x[torch.arange(32, device=x.device) % len(x)]
        with evaluating(self):
            made = self.decode(self.encode(x, Draws(int(rng.initial_seed()))))
        pairs = torch.stack([x.unflatten(0, (-1, 8)), made.unflatten(0, (-1, 8))], 1)
        return {"reconstructions": pairs.flatten(0, 2)}


def standard_normal(model: FirstStage, n: int, rng: torch.Generator | None) -> Tensor:
    """Latents [n, *latents] of N(0, I), on the device of the model."""
    return normal(n, *model.latents, rng=rng).to(model.device, model.dtype)
