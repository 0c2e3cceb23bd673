"""Images of known density, by their names: a mixture of textures, smooth images, and smooth images with peaked values."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from datamodules.base import Batch, Data, Endless, test_set
from datamodules.labs.density2d import Mixture, weights
from datamodules.labs.gauss_image import GaussImage


class Textures(Data):
    """Images [B, 1, size, size], each smooth along its rows, along its columns or in both ways; fresh at every step.

    Args:
        batch: global batch.
        size: height and width.
        near, far: pixels over which the correlation falls to exp(-1/2), across and along.
        std: of each pixel.
        grain: share of the variance that is independent from pixel to pixel.
    """

    def __init__(
        self,
        *,
        batch: int = 128,
        size: int = 8,
        near: float = 0.7,
        far: float = 2.5,
        std: float = 0.5,
        grain: float = 0.02,
    ) -> None:
        super().__init__(batch=batch)
        self.shape = (1, size, size)
        line = torch.arange(size).double()
        gap = (line[:, None] - line) ** 2 / 2
        short, long = torch.exp(-gap / near**2), torch.exp(-gap / far**2)
        smooth = torch.stack([torch.kron(short, long), torch.kron(long, short), torch.kron(long, long)])
        cov = std**2 * ((1 - grain) * smooth + grain * torch.eye(size**2, dtype=torch.float64))
        self.mixture = Mixture(weights(3), torch.zeros(3, size**2, dtype=torch.float64), cov)
        self.source = Endless(self.draw)

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        """n examples."""
        return {"x": self.mixture.draw(n, rng).float().view(n, *self.shape)}

    def test(self, n: int | None = None) -> Batch:
        return test_set(self.draw, n or 4096)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log density [B] of x [B, *shape] in nats, float64."""
        flat = x.cpu().double().flatten(1)
        parts = zip(self.mixture.mean, self.mixture.cov, strict=True)
        logs = [torch.distributions.MultivariateNormal(mean, cov).log_prob(flat) for mean, cov in parts]
        return torch.stack(logs).logsumexp(0) - math.log(len(logs))


class Peaked(Data):
    """Smooth Gaussian images whose values are mapped by sinh(bend g) / bend: most are small, a few are large; fresh at every step.

    Args:
        of: the Gaussian images.
        bend: strength; towards 0 the images stay as they are.
    """

    def __init__(self, of: GaussImage, *, bend: float = 2.0) -> None:
        super().__init__(batch=of.batch)
        self.of, self.shape, self.bend = of, of.shape, bend
        self.source = Endless(self.draw)

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        """n examples."""
        return {"x": torch.sinh(self.bend * self.of.draw(n, rng)["x"]) / self.bend}

    def test(self, n: int | None = None) -> Batch:
        return test_set(self.draw, n or 4096)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log density [B] of x [B, *shape] in nats, float64."""
        steep = self.bend * x.cpu().double()
        return self.of.log_prob(torch.asinh(steep) / self.bend) - 0.5 * steep.square().log1p().flatten(1).sum(1)


TEXTURES: dict[str, Callable[[int, int], GaussImage | Textures | Peaked]] = {
    "smooth": lambda batch, size: GaussImage(batch=batch, size=size),
    "textures": lambda batch, size: Textures(batch=batch, size=size),
    "peaked": lambda batch, size: Peaked(GaussImage(batch=batch, size=size)),
}
"""Images of known density, by their name."""


def images(name: str, size: int = 8, *, batch: int = 128) -> GaussImage | Textures | Peaked:
    """The images [B, 1, size, size] of a name.

    Raises:
        ValueError: there are none.
    """
    if name not in TEXTURES:
        raise ValueError(f"There are no images '{name}'; allowed: {', '.join(TEXTURES)}.")
    return TEXTURES[name](batch, size)
