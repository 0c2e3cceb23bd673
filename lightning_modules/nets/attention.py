"""Attention of the U-Net and the transformer: over the positions of an image, and to tokens of a condition."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.compat import fused
from lightning_modules.nets.embed import Tokens
from lightning_modules.nets.mlp import zero
from lightning_modules.nets.residual import norm


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
    """Softmax attention, all [B, heads, N, dim]; on a CPU by plain products, which took a quarter of the fused kernel's time.

    Args:
        mask: which keys count, bool, [B, N of the keys]; at least one in each row. None: all.
        causal: whether a query sees only the keys up to its own place.
    """
    if q.is_meta and mask is None:
        return fused(q, k, v)
    allowed = None if mask is None else mask[:, None, None]
    if causal:
        before = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        allowed = before if allowed is None else before & allowed
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    scores = q @ (k * k.shape[-1] ** -0.5).transpose(-1, -2)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    return scores.softmax(-1).to(v) @ v


def split_heads(rows: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """[B, N, parts * heads * dim] -> `parts` tensors [B, heads, N, dim]: queries, keys and values of one linear map."""
    b, n, _ = rows.shape
    return rows.reshape(b, n, parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


class Attention(nn.Module):
    """Self-attention over the positions of an image, residual; [B, C, H, W] -> the same.

    Where there are tokens, their keys and values are joined to those of the positions, as in GLIDE (Nichol et
    al. 2021, arXiv:2112.10741): one softmax weighs both, and a position can leave the tokens aside.

    Args:
        heads: their number, a divisor of C.
        tokens: features of each token, 0 for none.
        scale: of the sum of input and change.
    """

    def __init__(self, channels: int, heads: int, *, tokens: int = 0, scale: float = 1.0) -> None:
        super().__init__()
        self.heads, self.scale = heads, scale
        self.norm = norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.leave = zero(nn.Linear(channels, channels))
        self.tokens = nn.Linear(tokens, 2 * channels) if tokens else None

    def forward(self, x: Tensor, tokens: Tokens | None = None) -> Tensor:
        b, c, h, w = x.shape
        rows = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = split_heads(self.qkv(rows), 3, self.heads)
        mask = None
        if self.tokens is not None and tokens is not None:
            more_k, more_v = split_heads(self.tokens(tokens.rows), 2, self.heads)
            k, v = torch.cat([more_k, k], 2), torch.cat([more_v, v], 2)
            mask = None if tokens.mask is None else F.pad(tokens.mask, (0, h * w), value=True)
        mixed = attend(q, k, v, mask).transpose(1, 2).reshape(b, h * w, c)
        change = self.leave(mixed).transpose(1, 2).reshape(b, c, h, w)
        return x + change if self.scale == 1 else (x + change) * self.scale
