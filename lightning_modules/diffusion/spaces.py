"""The spaces in which a diffusion can take place: pixels, or the latents of a first stage."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from lightning_modules.draws import Draws


class Space(Protocol):
    """The space in which the diffusion takes place: pixels, or the latents of a first stage.

    A first stage that is an `nn.Module` is saved with the model, is in evaluation mode and gets no gradient. Where DDP trains
    the model, its weights must not require one (`requires_grad_(False)`), unless it is also a part of a `Staged` model.
    """

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the latents of an example of this shape."""
        ...

    def encode(self, x: Tensor, draws: Draws) -> Tensor:
        """Examples [B, *D] -> latents; its random numbers come from `draws`."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Latents -> examples [B, *D]."""
        ...


MOMENTS = "moments"
"""The entry of a batch that holds what latents are drawn from, [B, *]."""


@runtime_checkable
class OfMoments(Protocol):
    """A space whose latents can be drawn from moments that the first stage gave before."""

    def of_moments(self, moments: Tensor, draws: Draws) -> Tensor:
        """The latents that `encode` returns for the examples of these moments."""
        ...


class Pixels:
    """The space of the examples themselves."""

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape itself."""
        return shape

    def encode(self, x: Tensor, draws: Draws) -> Tensor:
        """x itself."""
        return x

    def decode(self, z: Tensor) -> Tensor:
        """z itself."""
        return z
