"""The U-Net of denoising diffusion.

Source: Ho et al. 2020, arXiv:2006.11239, appendix B; Dhariwal & Nichol 2021, arXiv:2105.05233, section 3 (attention at several
resolutions, with heads of a fixed number of channels; the label's embedding is added to that of the noise level).
Differs: the noise level's embedding is added after the first convolution, as in Ho et al.; there is no scale and shift (AdaGN).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.conditions import UNCONDITIONAL, Cond
from lightning_modules.nets.embed import Conditioning
from lightning_modules.nets.mlp import zero


def norm(channels: int) -> nn.GroupNorm:
    """At most 32 groups, of at least 4 channels."""
    groups = next(g for g in range(min(32, max(1, channels // 4)), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


class Residual(nn.Module):
    """Two 3x3 convolutions with a vector [B, width] added between them, residual; [B, C, H, W] -> [B, C', H, W]."""

    def __init__(self, enter: int, leave: int, width: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(enter), nn.Conv2d(enter, leave, 3, padding=1)
        self.condition = nn.Linear(width, leave)
        self.norm2, self.conv2 = norm(leave), zero(nn.Conv2d(leave, leave, 3, padding=1))
        self.drop = nn.Dropout(dropout)
        self.skip = nn.Conv2d(enter, leave, 1) if enter != leave else nn.Identity()

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.condition(vector)[:, :, None, None]
        h = self.conv2(self.drop(F.silu(self.norm2(h))))
        return self.skip(x) + h


class Attention(nn.Module):
    """Self-attention over the positions of an image, residual; [B, C, H, W] -> the same."""

    def __init__(self, channels: int, head: int) -> None:
        super().__init__()
        self.heads = max(1, channels // head)
        self.norm = norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.leave = zero(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        rows = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(rows).reshape(b, h * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = attend(q, k, v).transpose(1, 2).reshape(b, h * w, c)
        return x + self.leave(mixed).transpose(1, 2).reshape(b, c, h, w)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention, all [B, heads, N, dim]; on a CPU by plain products, which took a quarter of the fused kernel's time."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v)
    return (q @ (k * k.shape[-1] ** -0.5).transpose(-1, -2)).softmax(-1).to(v) @ v


class AttentionBlock(nn.Module):
    """A residual block, then self-attention where `head` is not 0; [B, C, H, W] -> [B, C', H, W]."""

    def __init__(self, enter: int, leave: int, width: int, dropout: float, head: int) -> None:
        super().__init__()
        self.block = Residual(enter, leave, width, dropout)
        self.attend = Attention(leave, head) if head else nn.Identity()

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        return self.attend(self.block(x, vector))


class Upsample(nn.Module):
    """Twice the height and width by the nearest neighbour, then a convolution; [B, C, H, W] -> [B, C, 2H, 2W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class UNet(nn.Module):
    """A network of a denoiser: (x [B, C, H, W], level [B], conditions) -> [B, outputs C, H, W]; zero at first.

    Args:
        channels: C of the images.
        width: channels at full resolution.
        multiples: of `width`, one for each resolution from full to coarsest.
        blocks: residual blocks at each resolution on the way down; one more on the way up.
        attention: resolutions, counted from 0 at full size, whose blocks attend; the middle always does.
        head: channels of one attention head.
        dropout: in the residual blocks.
        classes: number of labels, 0 for none.
        bf16: whether to compute in bfloat16 inside; weights, input and output stay as they are.
        outputs: how often the output has the channels of an image: 2 for a learned variance.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 64,
        multiples: tuple[int, ...] = (1, 2, 2),
        blocks: int = 2,
        attention: tuple[int, ...] = (1,),
        head: int = 64,
        dropout: float = 0.0,
        classes: int = 0,
        bf16: bool = False,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.levels, self.bf16 = len(multiples), bf16
        vector = 4 * width
        self.condition = Conditioning(vector, classes)
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        sizes, c = [width], width
        for i, m in enumerate(multiples):
            attend = head if i in attention else 0
            for _ in range(blocks):
                self.down.append(AttentionBlock(c, m * width, vector, dropout, attend))
                sizes.append(c := m * width)
            if i + 1 < len(multiples):
                self.down.append(nn.Conv2d(c, c, 3, stride=2, padding=1))
                sizes.append(c)
        self.middle = nn.ModuleList(
            [AttentionBlock(c, c, vector, dropout, head), AttentionBlock(c, c, vector, dropout, 0)]
        )
        for i, m in reversed(list(enumerate(multiples))):
            attend = head if i in attention else 0
            for _ in range(blocks + 1):
                self.up.append(AttentionBlock(c + sizes.pop(), m * width, vector, dropout, attend))
                c = m * width
            if i:
                self.up.append(Upsample(c))
        self.norm, self.leave = norm(c), zero(nn.Conv2d(c, outputs * channels, 3, padding=1))

    def forward(self, x: Tensor, level: Tensor, cond: Cond = UNCONDITIONAL) -> Tensor:
        """The output [B, outputs C, H, W].

        Args:
            level: what the network is given about the noise level; its embedding suits log sigma.
            cond: labels, for a network with classes.

        Raises:
            ValueError: the images cannot be halved so often, or a condition has no place in this network.
        """
        self._check(x)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            vector = F.silu(self.condition(level, cond))
            h = self._body(x, vector)
        return h.to(x)

    def _body(self, x: Tensor, vector: Tensor) -> Tensor:
        h = self.enter(x)
        kept = [h]
        for part in self.down:
            h = part(h, vector) if isinstance(part, AttentionBlock) else part(h)
            kept.append(h)
        for part in self.middle:
            h = part(h, vector)
        for part in self.up:
            h = part(torch.cat([h, kept.pop()], 1), vector) if isinstance(part, AttentionBlock) else part(h)
        return self.leave(F.silu(self.norm(h)))

    def _check(self, x: Tensor) -> None:
        unit = 2 ** (self.levels - 1)
        if x.ndim != 4 or x.shape[2] % unit or x.shape[3] % unit:
            raise ValueError(
                f"This U-Net halves images {self.levels - 1} times and got {tuple(x.shape)}: height and width of "
                f"[B, C, H, W] must be multiples of {unit}, or take fewer 'multiples'."
            )
