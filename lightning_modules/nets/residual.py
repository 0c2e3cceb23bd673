"""Residual convolutional blocks of the U-Net, and the ways in which it halves and doubles images."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.dropout import Dropout
from lightning_modules.nets.mlp import zero


def norm(channels: int) -> nn.GroupNorm:
    """At most 32 groups, of at least 4 channels."""
    groups = next(g for g in range(min(32, max(1, channels // 4)), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


def grouped(net: nn.Module, groups: int, eps: float = 1e-5) -> nn.Module:
    """The same network, in which every group normalisation has this number of groups.

    Raises:
        ValueError: the channels of one cannot be divided so.
    """
    for layer in net.modules():
        if isinstance(layer, nn.GroupNorm):
            if layer.num_channels % groups:
                raise ValueError(
                    f"{layer.num_channels} channels cannot be divided into {groups} groups of a normalisation."
                )
            layer.num_groups, layer.eps = groups, eps
    return net


def halve(x: Tensor) -> Tensor:
    """Means of 2 x 2 pixels; [B, C, H, W] -> [B, C, H/2, W/2]."""
    return F.avg_pool2d(x, 2)


def double(x: Tensor) -> Tensor:
    """Twice the height and width by the nearest neighbour; [B, C, H, W] -> [B, C, 2H, 2W]."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Residual(nn.Module):
    """Two 3x3 convolutions that a vector [B, width] acts on between them, residual; [B, C, H, W] -> [B, C', H, W].

    The vector is added after the first convolution (Ho et al. 2020), or scales and shifts the second normalisation: AdaGN,
    GroupNorm(h) (1 + scale) + shift (Dhariwal & Nichol 2021, arXiv:2105.05233, section 3.1).

    Args:
        scale_shift: whether by AdaGN.
        resize: `halve` or `double`, of the input and of what enters the first convolution: the residual blocks of BigGAN
            (Brock et al. 2019, arXiv:1809.11096, appendix B), as in Dhariwal & Nichol 2021, section 3.
        scale: of the sum of input and change; sqrt(1/2) in Song et al. 2021, arXiv:2011.13456, appendix H.
    """

    def __init__(
        self,
        enter: int,
        leave: int,
        width: int,
        dropout: float,
        *,
        scale_shift: bool = False,
        resize: Callable[[Tensor], Tensor] | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.scale_shift, self.resize, self.scale = scale_shift, resize, scale
        self.norm1, self.conv1 = norm(enter), nn.Conv2d(enter, leave, 3, padding=1)
        self.condition = nn.Linear(width, 2 * leave if scale_shift else leave)
        self.norm2, self.conv2 = norm(leave), zero(nn.Conv2d(leave, leave, 3, padding=1))
        self.drop = Dropout(dropout)
        self.skip = nn.Conv2d(enter, leave, 1) if enter != leave else nn.Identity()

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        h = F.silu(self.norm1(x))
        if self.resize is not None:
            x, h = self.resize(x), self.resize(h)
        h = self._normalised(self.conv1(h), self.condition(vector)[:, :, None, None])
        h = self.conv2(self.drop(F.silu(h)))
        return self.skip(x) + h if self.scale == 1 else (self.skip(x) + h) * self.scale

    def _normalised(self, h: Tensor, given: Tensor) -> Tensor:
        if not self.scale_shift:
            return self.norm2(h + given)
        scale, shift = given.chunk(2, 1)
        return self.norm2(h) * (1 + scale) + shift


class Upsample(nn.Module):
    """Twice the height and width by the nearest neighbour, then a convolution; [B, C, H, W] -> [B, C, 2H, 2W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(double(x))
