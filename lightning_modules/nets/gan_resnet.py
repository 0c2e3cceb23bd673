"""The residual networks of WGAN-GP for 32x32 images, and the same for other sizes.

Source: Gulrajani et al. 2017, arXiv:1704.00028, appendix F.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.nets.adversarial import Body, Discriminator


class Up(nn.Module):
    """A residual block that doubles height and width: batch norm, ReLU and two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.skip = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 2H, 2W]."""
        h = F.interpolate(F.relu(self.norms[0](x)), scale_factor=2.0, mode="nearest")
        h = self.convs[1](F.relu(self.norms[1](self.convs[0](h))))
        return h + self.skip(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Down(nn.Module):
    """A residual block of ReLU and two 3x3 convolutions that may halve height and width; no normalisation.

    Args:
        inputs, channels: of its input and of its output.
        halve: whether it halves height and width.
        first: whether its input are images, to which no ReLU is applied.
    """

    def __init__(self, inputs: int, channels: int, *, halve: bool, first: bool = False) -> None:
        super().__init__()
        self.halve, self.first = halve, first
        self.convs = nn.ModuleList(nn.Conv2d(c, channels, 3, padding=1) for c in (inputs, channels))
        self.skip = nn.Conv2d(inputs, channels, 1) if halve or inputs != channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, channels, H, W], or half as high and wide."""
        h = self.convs[1](F.relu(self.convs[0](x if self.first else F.relu(x))))
        return self._half(h) + self.skip(self._half(x))

    def _half(self, h: Tensor) -> Tensor:
        return F.avg_pool2d(h, 2) if self.halve else h


class Mean(nn.Module):
    """ReLU, then the mean over the pixels."""

    def forward(self, h: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C]."""
        return F.relu(h).mean((2, 3))


def doublings(shape: tuple[int, ...]) -> int:
    """Number of doublings from 4x4 to an image of shape (C, S, S).

    Raises:
        ValueError: the image is not a square of 8, 16, 32, ... pixels.
    """
    side = shape[-1]
    times = max(0, (side // 4).bit_length() - 1)
    if len(shape) != 3 or shape[1] != side or side != 4 * 2**times or times < 1:
        raise ValueError(f"Residual networks take images (C, S, S), S one of 8, 16, 32, ..., and were given {shape}.")
    return times


def residual_generator(latents: int, shape: tuple[int, ...], *, width: int = 128) -> Body:
    """A generator: latents [B, latents] -> images [B, C, S, S] in (-1, 1), of `width` channels. Raises as `doublings`."""
    first = [nn.Linear(latents, width * 16), nn.Unflatten(1, (width, 4, 4))]
    last = [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, shape[0], 3, padding=1), nn.Tanh()]
    return Body(nn.Sequential(*first, *(Up(width) for _ in range(doublings(shape))), *last))


def residual_discriminator(shape: tuple[int, ...], *, width: int = 128) -> Discriminator:
    """A discriminator: images [B, C, S, S] -> [B], halved down to 8x8 (at least once), then two more blocks. Raises as `doublings`."""
    halvings = max(1, doublings(shape) - 1)
    blocks = [Down(width if i else shape[0], width, halve=True, first=not i) for i in range(halvings)]
    rest = [Down(width, width, halve=False) for _ in range(2)]
    return Discriminator(Body(nn.Sequential(*blocks, *rest, Mean())), width)
