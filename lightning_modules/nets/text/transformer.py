"""A transformer over the tokens of a caption.

Source: Nichol et al. 2021, arXiv:2112.10741, section 4.1, and the authors' code (`text2im_model.py`, `clip/encoders.py`): a learned
embedding of each place, another of padding at each place, a last normalisation; the last token stands for the whole caption.
Differs: tokens are words, and captions have no token of their beginning or end.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.nets.dit_blocks import Block
from lightning_modules.nets.text.vocabulary import Vocabulary


class Text(NamedTuple):
    """What a transformer makes of captions."""

    rows: Tensor
    """Features of each token [B, L, width]."""
    mask: Tensor
    """Which tokens are words, [B, L], bool."""
    vector: Tensor
    """Features of the whole caption [B, width]."""


class TextTransformer(nn.Module):
    """Features of captions: tokens [B, L] -> `Text`. The vocabulary is saved with the weights.

    As in GLIDE every token sees every other one, padding included, and the last one stands for the caption. As in CLIP, where it is
    causal, a token sees those before it, and the last word stands for the caption: padding, which comes after, has no influence.

    Args:
        vocabulary: of the captions.
        width: features.
        depth: blocks.
        heads: of each attention.
        causal: whether a token sees only those before it.

    Raises:
        ValueError: the features cannot be divided into heads.
    """

    def __init__(
        self, vocabulary: Vocabulary, *, width: int, depth: int = 2, heads: int = 4, causal: bool = False
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{width} features of a text cannot be divided into {heads} heads.")
        self.vocabulary, self.width, self.causal = vocabulary, width, causal
        self.words = nn.Embedding(len(vocabulary.words), width)
        self.place = nn.Parameter(torch.randn(vocabulary.length, width) * width**-0.5)
        self.padding = nn.Parameter(torch.randn(vocabulary.length, width) * width**-0.5)
        self.blocks = nn.ModuleList(Block(width, heads, 4 * width, causal=causal) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.words.weight, std=width**-0.5)
        spelled = torch.frombuffer(bytearray("\n".join(vocabulary.words).encode()), dtype=torch.uint8)
        self.register_buffer("spelled", spelled.clone())
        self.register_load_state_dict_pre_hook(_check_words)

    def forward(self, tokens: Tensor) -> Text:
        """The features of captions [B, L].

        Raises:
            ValueError: the captions have another length; on a CPU, where a look waits for nothing, also if a token is none.
        """
        self._check(tokens)
        mask = tokens < self.vocabulary.padding
        words = self.words(tokens.clamp(max=self.vocabulary.padding - 1)) + self.place
        rows = torch.where(mask[..., None], words, self.padding)
        for block in self.blocks:
            rows = block(rows, rows)
        rows = self.norm(rows)
        last = (mask.sum(1) - 1).clamp(min=0) if self.causal else torch.full_like(tokens[:, 0], tokens.shape[1] - 1)
        return Text(rows, mask, rows[torch.arange(len(rows), device=rows.device), last])

    def _check(self, tokens: Tensor) -> None:
        if tokens.shape[1] != self.vocabulary.length:
            raise ValueError(f"Captions have {self.vocabulary.length} tokens here, not {tokens.shape[1]}.")
        most = self.vocabulary.padding
        if tokens.device.type == "cpu" and len(tokens) and not 0 <= tokens.min() <= tokens.max() <= most:
            raise ValueError(f"Tokens must be in 0..{most}, not {tokens.min():d}..{tokens.max():d}.")


def _check_words(module: nn.Module, weights: dict[str, Any], prefix: str, *_: Any) -> None:
    """Refuse weights of another vocabulary, for which these words would mean others."""
    saved, own = weights.get(f"{prefix}spelled"), module.spelled
    if isinstance(saved, Tensor) and not torch.equal(saved.cpu(), own.cpu()):  # type: ignore[arg-type]  # a buffer
        raise ValueError(
            "The weights are of a model with other words: its captions have changed since it was trained. Bring them back, or train again."
        )
