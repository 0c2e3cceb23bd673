"""A network of a denoiser with captions: a transformer over their tokens, trained with it, in front of any network that takes texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lightning_modules.conditions import UNCONDITIONAL, Cond
from lightning_modules.nets.text.transformer import Text, TextTransformer


@runtime_checkable
class Reads(Protocol):
    """A network that can be given prompts in words."""

    def read(self, prompts: Sequence[str]) -> Cond:
        """The conditions of prompts.

        Raises:
            ValueError: a prompt is empty, too long, or has an unknown word.
        """
        ...

    def sentences(self, cond: Cond) -> list[str]:
        """The words of the captions among conditions."""
        ...


class Captioned(nn.Module):
    """A network of a denoiser, (x [B, C, H, W], level [B], conditions) -> its output, of `Cond.tokens`.

    It makes `Cond.text` and `Cond.vector` of them for the network inside. A hidden or absent caption is the empty one, all padding.

    Source: Nichol et al. 2021, arXiv:2112.10741, sections 2.3 (empty captions) and 4.1: every attention sees the features of all
    tokens, those of padding too, and the last one's are added to the embedding of the level.

    Args:
        text: of the tokens.
        body: the network, with places for `text` and `vector` of as many features, such as `UNet(..., text=width, vector=width)`.
    """

    def __init__(self, text: TextTransformer, body: nn.Module) -> None:
        super().__init__()
        self.text, self.body = text, body

    def forward(self, x: Tensor, level: Tensor, cond: Cond = UNCONDITIONAL) -> Tensor:
        text = self.features(cond, len(x))
        return self.body(x, level, replace(cond.without("tokens"), text=text.rows, vector=text.vector))

    def features(self, cond: Cond, n: int) -> Text:
        """The features of n captions."""
        empty = self.text.vocabulary.empty(n).to(self.text.place.device)
        if cond.tokens is None:
            return self.text(empty)
        tokens, hidden = cond.tokens.to(empty), cond.hidden.get("tokens")
        if hidden is None:
            return self.text(tokens)
        return self.text(torch.where(hidden.to(empty.device)[:, None], empty, tokens))

    def read(self, prompts: Sequence[str]) -> Cond:
        """The tokens of prompts as conditions.

        Raises:
            ValueError: a prompt is empty, too long, or has an unknown word.
        """
        return Cond(tokens=self.text.vocabulary.prompts(prompts))

    def sentences(self, cond: Cond) -> list[str]:
        """The words of `Cond.tokens`, one sentence for each example."""
        return [] if cond.tokens is None else self.text.vocabulary.sentences(cond.tokens)
