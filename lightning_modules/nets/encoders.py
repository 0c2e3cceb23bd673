"""Networks of a classifier of noised examples: the encoder half of a U-Net with attention pooling, and a perceptron.

Source: Dhariwal & Nichol 2021, arXiv:2105.05233, section 4.3: the way down of the U-Net, with an attention pool (Radford et al. 2021,
arXiv:2103.00020, section 2.4) at its coarsest resolution.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.conditions import UNCONDITIONAL, Cond
from lightning_modules.nets.attention import attend, split_heads
from lightning_modules.nets.embed import Conditioning
from lightning_modules.nets.mlp import Block
from lightning_modules.nets.patches import check_size
from lightning_modules.nets.residual import Residual, halve, norm
from lightning_modules.nets.unet import AttentionBlock, heads_of


class AttentionPool(nn.Module):
    """Attention of the mean of all positions to them and to itself: [B, C, H, W] -> [B, outputs].

    Args:
        channels: C, a multiple of `heads`.
        positions: H W.
        heads: their number.
        outputs: features of the result.
    """

    def __init__(self, channels: int, positions: int, heads: int, outputs: int) -> None:
        super().__init__()
        self.heads = heads
        self.place = nn.Parameter(torch.randn(positions + 1, channels) / channels**0.5)
        self.qkv, self.leave = nn.Linear(channels, 3 * channels), nn.Linear(channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).transpose(1, 2)
        rows = torch.cat([rows.mean(1, keepdim=True), rows], 1) + self.place
        q, k, v = split_heads(self.qkv(rows), 3, self.heads)
        return self.leave(attend(q[:, :, :1], k, v).transpose(1, 2).flatten(1))


class UNetEncoder(nn.Module):
    """The way down of ADM's U-Net: (x [B, C, H, W], level [B]) -> [B, outputs].

    AdaGN, residual blocks that halve, and attention as in `unet.UNet`; the middle follows, then an `AttentionPool`.

    Args:
        shape: (C, H, W) of the images.
        outputs: number of classes.
        width: channels at full resolution.
        multiples: of `width`, one for each resolution from full to coarsest.
        blocks: residual blocks at each resolution.
        attention: resolutions, counted from 0 at full size, whose blocks attend; the middle always does.
        head: channels of one attention head.
        dropout: in the residual blocks.
        patch: side of the squares of pixels that become channels at the input.

    Raises:
        ValueError: the images cannot be halved so often, or the channels not be divided into heads.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        *,
        width: int = 128,
        multiples: tuple[int, ...] = (1, 2, 3, 4),
        blocks: int = 4,
        attention: tuple[int, ...] = (1, 2, 3),
        head: int = 64,
        dropout: float = 0.0,
        patch: int = 1,
    ) -> None:
        super().__init__()
        halvings, self.patch = len(multiples) - 1, patch
        check_size(shape, shape[0], patch * 2**halvings, f"This classifier halves images {halvings} times")
        embedded = 4 * width
        self.condition = Conditioning(embedded)

        def residual(enter: int, leave: int, *, halves: bool = False) -> Residual:
            resize = halve if halves else None
            return Residual(enter, leave, embedded, dropout, scale_shift=True, resize=resize)

        def block(enter: int, leave: int, attend: bool) -> AttentionBlock:
            return AttentionBlock(residual(enter, leave), leave, heads_of(leave, head, 0) if attend else 0, 0)

        self.enter, self.down, c = nn.Conv2d(shape[0] * patch**2, width, 3, padding=1), nn.ModuleList(), width
        for i, m in enumerate(multiples):
            for _ in range(blocks):
                self.down.append(block(c, m * width, i in attention))
                c = m * width
            if i < halvings:
                self.down.append(residual(c, c, halves=True))
        self.down.extend([block(c, c, True), block(c, c, False)])
        positions = shape[1] * shape[2] // (patch**2 * 4**halvings)
        self.norm, self.pool = norm(c), AttentionPool(c, positions, heads_of(c, head, 0), outputs)

    def forward(self, x: Tensor, level: Tensor, cond: Cond = UNCONDITIONAL) -> Tensor:
        """The logits [B, outputs].

        Args:
            level: what the network is given about the noise level; its embedding suits log sigma.
            cond: none, for there is no place for any.
        """
        vector = F.silu(self.condition(level, cond))
        h = self.enter(F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x)
        for part in self.down:
            h = part(h, vector)
        return self.pool(F.silu(self.norm(h)))


class VectorEncoder(nn.Module):
    """A residual multilayer perceptron: (x [B, *D], level [B]) -> [B, outputs].

    Args:
        shape: D.
        outputs: number of classes.
        width: of the hidden layers.
        depth: residual blocks.
    """

    def __init__(self, shape: tuple[int, ...], outputs: int, *, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        self.condition = Conditioning(width)
        self.enter, self.leave = nn.Linear(math.prod(shape), width), nn.Linear(width, outputs)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))

    def forward(self, x: Tensor, level: Tensor, cond: Cond = UNCONDITIONAL) -> Tensor:
        """The logits [B, outputs]; the arguments are those of `UNetEncoder`."""
        vector, h = F.silu(self.condition(level, cond)), self.enter(x.flatten(1))
        for block in self.blocks:
            h = block(h, vector)
        return self.leave(h)
