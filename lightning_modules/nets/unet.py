"""The U-Net of denoising diffusion, from that of DDPM (the defaults) to that of ADM.

Source: Ho et al. 2020, arXiv:2006.11239, appendix B; Dhariwal & Nichol 2021, arXiv:2105.05233, section 3 and table 1: attention
at several resolutions, heads of a fixed number of channels, `scale_shift` (AdaGN), `residual_resampling` (BigGAN's blocks); the
label's embedding is added to that of the noise level; Saharia et al. 2022, arXiv:2205.11487, section 2.4: `early`, `skip_scale` and
more `blocks` at low resolutions make the efficient U-Net.
Differs: a group of a normalisation has at least 4 channels, so narrow networks have fewer than 32 groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.compat import autocast
from lightning_modules.conditions import UNCONDITIONAL, Cond
from lightning_modules.nets.attention import Attention
from lightning_modules.nets.embed import Conditioning, Features, JoinedImage, TokenEmbedding, Tokens
from lightning_modules.nets.mlp import zero
from lightning_modules.nets.patches import check_size
from lightning_modules.nets.recompute import recomputed
from lightning_modules.nets.residual import Residual, Upsample, double, halve, norm


class AttentionBlock(nn.Module):
    """A residual block, then attention where `heads` is not 0; [B, C, H, W] -> [B, C', H, W]."""

    def __init__(self, block: Residual, channels: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.block = block
        self.attend = Attention(channels, heads, tokens=tokens, scale=block.scale) if heads else nn.Identity()

    def forward(self, x: Tensor, vector: Tensor, tokens: Tokens | None = None) -> Tensor:
        h = self.block(x, vector)
        return self.attend(h, tokens) if isinstance(self.attend, Attention) else h


class Inside(NamedTuple):
    """What a U-Net has found when it is half way through."""

    features: tuple[Tensor, ...]
    """What the way down keeps for the way up, each [B, C, H, W], and last the output of the middle."""
    vector: Tensor
    """The embedding [B, 4 width] of the level and the conditions."""
    tokens: Tokens | None
    """What attention sees besides the image."""


class UNet(nn.Module):
    """A network of a denoiser: (x [B, C, H, W], level [B], conditions) -> [B, outputs C, H, W]; zero at first.

    Args:
        channels: C of the images.
        width: channels at full resolution.
        multiples: of `width`, one for each resolution from full to coarsest.
        blocks: residual blocks at each resolution on the way down, one number or one for each; one more on the way up.
        attention: resolutions, counted from 0 at full size, whose blocks attend; the middle always does.
        head: channels of one attention head; 0 for no attention at all.
        heads: number of heads, in place of `head`; 0: by `head`.
        dropout: in the residual blocks.
        classes: number of labels, 0 for none.
        bf16: whether to compute in bfloat16 inside; weights, input and output stay as they are.
        outputs: how often the output has the channels of an image: 2 for a learned variance.
        scale_shift: whether level and labels scale and shift normalised activations (AdaGN) and are not added.
        residual_resampling: whether residual blocks halve and double, in place of convolutions.
        residual_scale: of the sum in every residual block and attention; sqrt(1/2) in NCSN++ and EDM.
        skip_scale: of what the way up takes from the way down; sqrt(1/2) in Imagen.
        early: whether blocks of each resolution work at half of it: halving comes before them on the way down, and doubling after
            them on the way up, as in Imagen's efficient U-Net.
        patch: side of the squares of pixels that become channels at the input and pixels again at the output.
        checkpoint: whether blocks are computed again in the backward pass, to save memory.
        text: features of each token of `Cond.text`, which every attention then sees; 0 for no text.
        vector: features of `Cond.vector`, whose embedding is added to that of the level; 0 for none.
        label_token: whether the label is a token that every attention sees, and is not added to the level's embedding.
        vector_tokens: tokens made of `Cond.vector` that every attention sees as well (4 in unCLIP).
        image: channels of `Cond.image`, joined to those of x; 0 for none.
        numbers: count of `Cond.numbers`, embedded as the level is; 0 for none.
        features: of the level, from which its embedding is learned; None: waves that suit log sigma.

    Raises:
        ValueError: options that do not fit together.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 64,
        multiples: tuple[int, ...] = (1, 2, 2),
        blocks: int | tuple[int, ...] = 2,
        attention: tuple[int, ...] = (1,),
        head: int = 64,
        heads: int = 0,
        dropout: float = 0.0,
        classes: int = 0,
        bf16: bool = False,
        outputs: int = 1,
        scale_shift: bool = False,
        residual_resampling: bool = False,
        residual_scale: float = 1.0,
        skip_scale: float = 1.0,
        early: bool = False,
        patch: int = 1,
        checkpoint: bool = False,
        text: int = 0,
        vector: int = 0,
        label_token: bool = False,
        vector_tokens: int = 0,
        image: int = 0,
        numbers: int = 0,
        features: Features | None = None,
    ) -> None:
        super().__init__()
        if vector_tokens and not vector:
            raise ValueError("'vector_tokens' are made of a condition 'vector': give the number of its features.")
        counts = (blocks,) * len(multiples) if isinstance(blocks, int) else tuple(blocks)
        if len(counts) != len(multiples) or min(counts, default=0) < 1:
            raise ValueError(f"'blocks' {blocks} must be at least 1 for each of the {len(multiples)} 'multiples'.")
        self.channels, self.halvings, self.patch = channels, len(multiples) - (not early), patch
        self.early = early
        self.bf16, self.checkpoint, self.skip_scale = bf16, checkpoint, skip_scale
        embedded = 4 * width
        places = {"text": text, "image": image, "label": classes if label_token else 0}
        self.condition = Conditioning(
            embedded, 0 if label_token else classes, vector=vector, numbers=numbers, features=features,
            elsewhere=tuple(name for name, size in places.items() if size),
        )  # fmt: skip
        attends = bool(text or vector_tokens or (classes and label_token))

        def residual(enter: int, leave: int, resize: Callable[[Tensor], Tensor] | None = None) -> Residual:
            return Residual(
                enter, leave, embedded, dropout, scale_shift=scale_shift, resize=resize, scale=residual_scale
            )

        def block(enter: int, leave: int, attend: bool) -> AttentionBlock:
            count = heads_of(leave, head, heads) if attend else 0
            return AttentionBlock(residual(enter, leave), leave, count, embedded if attends else 0)

        self.enter = nn.Conv2d((channels + image) * patch**2, width, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        sizes, c = [] if early else [width], width
        for i, m in enumerate(multiples):
            if i or early:
                self.down.append(
                    residual(c, c, halve) if residual_resampling else nn.Conv2d(c, c, 3, stride=2, padding=1)
                )
                sizes.append(c)
            for _ in range(counts[i]):
                self.down.append(block(c, m * width, i in attention))
                sizes.append(c := m * width)
        self.middle = nn.ModuleList([block(c, c, True), block(c, c, False)])
        self.widths = (*sizes, c)  # channels of `Inside.features`
        for i, m in reversed(list(enumerate(multiples))):
            for _ in range(counts[i] + 1):
                self.up.append(block(c + sizes.pop(), m * width, i in attention))
                c = m * width
            if i or early:
                self.up.append(residual(c, c, double) if residual_resampling else Upsample(c))
        self.norm, self.leave = norm(c), zero(nn.Conv2d(c, outputs * channels * patch**2, 3, padding=1))
        self.tokens = (
            TokenEmbedding(
                embedded, text=text, vector=vector, from_vector=vector_tokens, classes=classes if label_token else 0
            )
            if attends
            else None
        )
        self.join = JoinedImage(image) if image else None

    def forward(self, x: Tensor, level: Tensor, cond: Cond = UNCONDITIONAL) -> Tensor:
        """The output [B, outputs C, H, W].

        Args:
            level: what the network is given about the noise level; its embedding suits log sigma, unless `features` is given.
            cond: the conditions that the network has places for; it takes its learned null for those that are absent.

        Raises:
            ValueError: the images cannot be halved so often, or a condition has no place in this network.
        """
        with autocast(x, self.bf16):
            return self.decode(self.encode(x, level, cond)).to(x)

    def encode(self, x: Tensor, level: Tensor, cond: Cond = UNCONDITIONAL, *, added: Tensor | None = None) -> Inside:
        """The way down and the middle; the arguments and errors are those of `forward`.

        Args:
            added: to the features [B, width, H / patch, W / patch] that the first convolution makes of x.
        """
        self.check(tuple(x.shape))
        vector = F.silu(self.condition(level, cond))
        tokens = None if self.tokens is None else self.tokens(cond, len(x))
        h = x if self.join is None else self.join(x, cond)
        h = self.enter(F.pixel_unshuffle(h, self.patch) if self.patch > 1 else h)
        h = h if added is None else h + added
        kept = [] if self.early else [h]
        for part in self.down:
            h = self._through(part, h, vector, tokens)
            kept.append(h)
        for part in self.middle:
            h = self._through(part, h, vector, tokens)
        return Inside((*kept, h), vector, tokens)

    def decode(self, inside: Inside) -> Tensor:
        """The way up: the output [B, outputs C, H, W] from what `encode` found."""
        *kept, h = inside.features
        for part in self.up:
            if isinstance(part, AttentionBlock):
                skip = kept.pop()
                h = torch.cat([h, skip if self.skip_scale == 1 else skip * self.skip_scale], 1)
            h = self._through(part, h, inside.vector, inside.tokens)
        h = self.leave(F.silu(self.norm(h)))
        return F.pixel_shuffle(h, self.patch) if self.patch > 1 else h

    def _through(self, part: nn.Module, h: Tensor, vector: Tensor, tokens: Tokens | None) -> Tensor:
        if not isinstance(part, AttentionBlock | Residual):
            return part(h)
        given = (h, vector, tokens) if isinstance(part, AttentionBlock) else (h, vector)
        return recomputed(part, *given) if self.checkpoint and torch.is_grad_enabled() else part(*given)

    def check(self, shape: tuple[int, ...]) -> None:
        """Check the shape [..., C, H, W] of images.

        Raises:
            ValueError: they have other channels, or a size that cannot be cut into patches and halved so often.
        """
        halved = f"halves images {self.halvings} time{'s' if self.halvings != 1 else ''}"
        cut = f"makes channels of {self.patch} x {self.patch} pixels, " if self.patch > 1 else ""
        check_size(shape, self.channels, self.patch * 2**self.halvings, f"This U-Net {cut}{halved}")


def heads_of(channels: int, head: int, heads: int) -> int:
    """The number of heads of an attention over `channels`: `heads`, or as many as have `head` channels, but at least one; 0 for none.

    Raises:
        ValueError: the channels cannot be divided so.
    """
    found = heads or (max(1, channels // head) if head else 0)
    if found and channels % found:
        raise ValueError(
            f"{channels} channels cannot be divided into {found} heads of attention: take another width, 'head' or 'heads'."
        )
    return found
