"""The diffusion transformer, DiT: a vision transformer over patches of images.

Source: Peebles & Xie 2023, arXiv:2212.09748, section 3 and table 1.
Differs: the level's embedding suits log sigma and not an index, unless `features` is given; with adaLN-Zero off, the last
normalisation has weights of its own; queries and keys can be normalised (`qk_norm`), and `Cond.image`, `Cond.vector` and
`Cond.numbers` have places too.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.compat import autocast
from lightning_modules.conditions import UNCONDITIONAL, Cond
from lightning_modules.nets.dit_blocks import AdaptiveBlock, AdaptiveHead, Block, CrossBlock, Head
from lightning_modules.nets.embed import Conditioning, Features, JoinedImage
from lightning_modules.nets.mlp import zero
from lightning_modules.nets.patches import check_size, patchify, unpatchify
from lightning_modules.nets.recompute import recomputed

Design = Literal["adaln-zero", "in-context", "cross-attention"]
"""How a DiT is given level and conditions: by scales, shifts and gates; as rows of the sequence; by attention to them."""


class Size(NamedTuple):
    """The size of a DiT."""

    width: int
    """Features of a row."""
    depth: int
    """Blocks."""
    heads: int
    """Of each attention."""


SIZES = {"S": Size(384, 12, 6), "B": Size(768, 12, 12), "L": Size(1024, 24, 16), "XL": Size(1152, 28, 16)}
"""The sizes of table 1."""
BLOCKS = {"adaln-zero": AdaptiveBlock, "in-context": Block, "cross-attention": CrossBlock}


def positions(height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """Sines and cosines [height width, dim] of the column, then of the row, each at dim / 4 frequencies from 1 down to 1/10000.

    Source: DiT's code (`get_2d_sincos_pos_embed`), which follows He et al. 2022, arXiv:2111.06377.
    """
    frequency = 10000.0 ** -(torch.arange(dim // 4, device=device, dtype=torch.float64) * (4 / dim))
    rows, columns = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    angles = [at.flatten()[:, None] * frequency for at in (columns, rows)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], 1).float()


class DiT(nn.Module):
    """A network of a denoiser: (x [B, C, H, W], level [B], conditions) -> [B, outputs C, H, W]; zero at first.

    Args:
        channels: C of the images.
        size: width, depth and heads; `SIZES` has the paper's.
        patch: side of the squares of pixels, each of which is one row.
        design: how level and conditions act, see `Design`.
        expansion: hidden features of a block's perceptron, over the width.
        qk_norm: whether the queries and keys of self-attention are normalised (Dehghani et al. 2023, arXiv:2302.05442).
        dropout: of what each attention and perceptron adds.
        classes: number of labels, 0 for none.
        bf16: whether to compute in bfloat16 inside; weights, input and output stay as they are.
        outputs: how often the output has the channels of an image: 2 for a learned variance.
        checkpoint: whether blocks are computed again in the backward pass, to save memory.
        vector: features of `Cond.vector`, 0 for none.
        image: channels of `Cond.image`, joined to those of x; 0 for none.
        numbers: count of `Cond.numbers`, embedded as the level is; 0 for none.
        features: of the level, from which its embedding is learned; None: waves that suit log sigma.

    Raises:
        ValueError: the width is not a multiple of the heads or of 4, or there is no such design.
    """

    def __init__(
        self,
        channels: int,
        size: Size = SIZES["S"],
        *,
        patch: int = 2,
        design: Design = "adaln-zero",
        expansion: float = 4.0,
        qk_norm: bool = False,
        dropout: float = 0.0,
        classes: int = 0,
        bf16: bool = False,
        outputs: int = 1,
        checkpoint: bool = False,
        vector: int = 0,
        image: int = 0,
        numbers: int = 0,
        features: Features | None = None,
    ) -> None:
        super().__init__()
        width, depth, heads = size
        if width % heads or width % 4:
            raise ValueError(f"The width of a DiT must be a multiple of its {heads} heads and of 4, not {width}.")
        if design not in BLOCKS:
            raise ValueError(f"There is no design '{design}' of a DiT. Allowed: {', '.join(BLOCKS)}.")
        self.channels, self.width, self.patch, self.design = channels, width, patch, design
        self.bf16, self.checkpoint = bf16, checkpoint
        self.condition = Conditioning(
            width, classes, vector=vector, numbers=numbers, features=features, elsewhere=("image",) if image else ()
        )
        self.join = JoinedImage(image) if image else None
        self.enter = nn.Linear((channels + image) * patch**2, width)
        hidden = int(expansion * width)
        self.blocks = nn.ModuleList(
            BLOCKS[design](width, heads, hidden, dropout=dropout, qk_norm=qk_norm) for _ in range(depth)
        )
        head = AdaptiveHead if design == "adaln-zero" else Head
        self.head = head(width, outputs * channels * patch**2)
        self._initialise()

    def _initialise(self) -> None:
        """The paper's: Xavier, embeddings of standard deviation 0.02, and zeros where a block or the output shall begin as none."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        for layer in self.condition.modules():
            if isinstance(layer, nn.Linear | nn.Embedding):
                nn.init.normal_(layer.weight, std=0.02)
        for layer in self.modules():
            if isinstance(layer, AdaptiveBlock | AdaptiveHead):
                zero(layer.modulation)
        zero(self.head.leave)

    def forward(self, x: Tensor, level: Tensor, cond: Cond = UNCONDITIONAL) -> Tensor:
        """The output [B, outputs C, H, W].

        Args:
            level: what the network is given about the noise level; its embedding suits log sigma, unless `features` is given.
            cond: the conditions that the network has places for; it takes its learned null for those that are absent.

        Raises:
            ValueError: the images cannot be cut into patches, or a condition has no place in this network.
        """
        self.check(tuple(x.shape))
        height, width = x.shape[2:]
        with autocast(x, self.bf16):
            parts = torch.stack(self.condition.parts(level, cond), 1)
            given = F.silu(parts.sum(1)) if self.design == "adaln-zero" else parts
            rows = self.enter(patchify(x if self.join is None else self.join(x, cond), self.patch))
            rows = rows + positions(height // self.patch, width // self.patch, self.width, x.device).to(x)
            out = self.head(self._through(rows, given), given)
        return unpatchify(out, self.patch, height, width).to(x)

    def _through(self, rows: Tensor, given: Tensor) -> Tensor:
        n = rows.shape[1]
        if self.design == "in-context":
            rows = torch.cat([rows, given.to(rows)], 1)
        for block in self.blocks:
            again = self.checkpoint and torch.is_grad_enabled()
            rows = recomputed(block, rows, given) if again else block(rows, given)
        return rows[:, :n]

    def check(self, shape: tuple[int, ...]) -> None:
        """Check the shape [..., C, H, W] of images.

        Raises:
            ValueError: they have other channels, or a size that cannot be cut into patches.
        """
        check_size(
            shape, self.channels, self.patch, f"This DiT cuts images into patches of {self.patch} x {self.patch}"
        )
