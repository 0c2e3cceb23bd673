"""Blocks of the diffusion transformer, in the three designs of Peebles & Xie 2023, arXiv:2212.09748, section 3.2.

Every block maps rows [B, N, width] to the same, with `given`: a vector [B, width] for adaLN-Zero, rows [B, K, width] for
cross-attention, unused in context, where the rows of the condition are in the sequence itself.
"""

from __future__ import annotations

from torch import Tensor, nn

from lightning_modules.dropout import Dropout
from lightning_modules.nets.attention import attend, split_heads


class SelfAttention(nn.Module):
    """Attention of rows [B, N, width] to each other.

    Args:
        qk_norm: whether queries and keys of each head are divided by their root mean square, times learned scales.
        causal: whether a row sees only itself and those before it.
    """

    def __init__(self, width: int, heads: int, *, qk_norm: bool = False, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.leave = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.q_norm = nn.RMSNorm(width // heads, eps=1e-6) if qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(width // heads, eps=1e-6) if qk_norm else nn.Identity()

    def forward(self, rows: Tensor) -> Tensor:
        q, k, v = split_heads(self.qkv(rows), 3, self.heads)
        mixed = attend(self.q_norm(q).to(v), self.k_norm(k).to(v), v, causal=self.causal)
        return self.leave(mixed.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Attention of rows [B, N, width] to others [B, K, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.leave = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, rows: Tensor, others: Tensor) -> Tensor:
        (q,) = split_heads(self.q(rows), 1, self.heads)
        k, v = split_heads(self.kv(others), 2, self.heads)
        return self.leave(attend(q, k, v).transpose(1, 2).flatten(2))


def perceptron(width: int, hidden: int) -> nn.Sequential:
    """Two linear layers with GELU (by tanh) between them."""
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))


def plain_norm(width: int) -> nn.LayerNorm:
    """Layer normalisation without weights."""
    return nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)


class AdaptiveBlock(nn.Module):
    """adaLN-Zero: a vector [B, width] scales and shifts both normalised inputs, and gates what is added; the identity at first."""

    def __init__(self, width: int, heads: int, hidden: int, *, dropout: float = 0.0, qk_norm: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = plain_norm(width), plain_norm(width)
        self.attend = SelfAttention(width, heads, qk_norm=qk_norm)
        self.mlp, self.drop = perceptron(width, hidden), Dropout(dropout)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, rows: Tensor, given: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(given)[:, None].chunk(6, 2)
        rows = rows + gate1 * self.drop(self.attend(self.norm1(rows) * (1 + scale1) + shift1))
        return rows + gate2 * self.drop(self.mlp(self.norm2(rows) * (1 + scale2) + shift2))


class Block(nn.Module):
    """The block of a vision transformer: self-attention and a perceptron, each of normalised rows, each added."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        dropout: float = 0.0,
        qk_norm: bool = False,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attend = SelfAttention(width, heads, qk_norm=qk_norm, causal=causal)
        self.mlp, self.drop = perceptron(width, hidden), Dropout(dropout)

    def forward(self, rows: Tensor, given: Tensor) -> Tensor:
        rows = rows + self.drop(self.attend(self.norm1(rows)))
        return rows + self.drop(self.mlp(self.norm2(rows)))


class CrossBlock(nn.Module):
    """As `Block`, with attention to the rows [B, K, width] of the condition between self-attention and perceptron."""

    def __init__(self, width: int, heads: int, hidden: int, *, dropout: float = 0.0, qk_norm: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.attend, self.cross = SelfAttention(width, heads, qk_norm=qk_norm), CrossAttention(width, heads)
        self.mlp, self.drop = perceptron(width, hidden), Dropout(dropout)

    def forward(self, rows: Tensor, given: Tensor) -> Tensor:
        rows = rows + self.drop(self.attend(self.norm1(rows)))
        rows = rows + self.drop(self.cross(self.norm2(rows), given))
        return rows + self.drop(self.mlp(self.norm3(rows)))


class AdaptiveHead(nn.Module):
    """The last layer of adaLN-Zero: normalised rows, scaled and shifted by a vector [B, width], to outputs [B, N, leave]."""

    def __init__(self, width: int, leave: int) -> None:
        super().__init__()
        self.norm, self.modulation, self.leave = plain_norm(width), nn.Linear(width, 2 * width), nn.Linear(width, leave)

    def forward(self, rows: Tensor, given: Tensor) -> Tensor:
        shift, scale = self.modulation(given)[:, None].chunk(2, 2)
        return self.leave(self.norm(rows) * (1 + scale) + shift)


class Head(nn.Module):
    """The last layer of the other designs: normalised rows [B, N, width] to outputs [B, N, leave]."""

    def __init__(self, width: int, leave: int) -> None:
        super().__init__()
        self.norm, self.leave = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, leave)

    def forward(self, rows: Tensor, given: Tensor) -> Tensor:
        return self.leave(self.norm(rows))
