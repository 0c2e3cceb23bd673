"""The convolutional encoder and decoder of first stages.

Source: Rombach et al. 2022, arXiv:2112.10752, appendix G, with the options of the authors' configurations.
Differs: as in `nets.residual`, a group of a normalisation has at least 4 channels; `patch` makes channels of squares of pixels first.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.nets.attention import Attention
from lightning_modules.nets.patches import check_size
from lightning_modules.nets.residual import Upsample, norm


class Block(nn.Module):
    """Two 3x3 convolutions, residual; [B, C, H, W] -> [B, C', H, W]."""

    def __init__(self, enter: int, leave: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            norm(enter), nn.SiLU(), nn.Conv2d(enter, leave, 3, padding=1),
            norm(leave), nn.SiLU(), nn.Conv2d(leave, leave, 3, padding=1),
        )  # fmt: skip
        self.skip = nn.Conv2d(enter, leave, 1) if enter != leave else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.body(x)


class Half(nn.Module):
    """Half the height and width by a convolution that is padded at the right and at the bottom."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


def middle(channels: int, attention: bool) -> Iterator[nn.Module]:
    """Two blocks at the coarsest resolution, with attention between them."""
    yield Block(channels, channels)
    if attention:
        yield Attention(channels, 1)
    yield Block(channels, channels)


class Encoder(nn.Module):
    """Images [B, C, H, W] -> [B, outputs, H / factor, W / factor], factor = patch 2^(len(multiples) - 1).

    Args:
        channels: C of the images.
        outputs: channels of the latents' moments.
        width: channels at the finest resolution.
        multiples: of `width`, one for each resolution from finest to coarsest.
        blocks: residual blocks at each resolution.
        attention: whether the middle attends.
        patch: side of the squares of pixels that become channels at the input.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        *,
        width: int = 128,
        multiples: tuple[int, ...] = (1, 2, 4, 4),
        blocks: int = 2,
        attention: bool = True,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.channels, self.patch, self.halvings = channels, patch, len(multiples) - 1
        c = width * multiples[0]
        self.enter = nn.Conv2d(channels * patch**2, c, 3, padding=1)
        parts: list[nn.Module] = []
        for i, m in enumerate(multiples):
            for _ in range(blocks):
                parts.append(Block(c, m * width))
                c = m * width
            if i < self.halvings:
                parts.append(Half(c))
        self.body = nn.Sequential(*parts, *middle(c, attention), norm(c), nn.SiLU())
        self.leave = nn.Conv2d(c, outputs, 3, padding=1)

    @property
    def factor(self) -> int:
        """By how much height and width shrink."""
        return self.patch * 2**self.halvings

    def forward(self, x: Tensor) -> Tensor:
        """The moments of the latents.

        Raises:
            ValueError: the images have other channels, or a size that is no multiple of `factor`.
        """
        check_size(tuple(x.shape), self.channels, self.factor, f"This encoder shrinks images {self.factor} times")
        return self.leave(self.body(self.enter(F.pixel_unshuffle(x, self.patch))))


class Decoder(nn.Module):
    """Latents [B, latents, h, w] -> images [B, C, factor h, factor w]. Its arguments are those of `Encoder`.

    Args:
        channels: C of the images.
        latents: channels of the latents.
        width, multiples, blocks, attention, patch: as in `Encoder`, in the same order; one block more at each resolution.
    """

    def __init__(
        self,
        channels: int,
        latents: int,
        *,
        width: int = 128,
        multiples: tuple[int, ...] = (1, 2, 4, 4),
        blocks: int = 2,
        attention: bool = True,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.patch = patch
        c = width * multiples[-1]
        self.enter = nn.Conv2d(latents, c, 3, padding=1)
        parts = list(middle(c, attention))
        for i, m in reversed(list(enumerate(multiples))):
            for _ in range(blocks + 1):
                parts.append(Block(c, m * width))
                c = m * width
            if i:
                parts.append(Upsample(c))
        self.body = nn.Sequential(*parts, norm(c), nn.SiLU())
        self.leave = nn.Conv2d(c, channels * patch**2, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """The images."""
        return F.pixel_shuffle(self.leave(self.body(self.enter(z))), self.patch)
