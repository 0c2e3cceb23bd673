"""Words as tokens: the vocabulary of a model of captions, and what it refuses of a prompt."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

LISTED = 60
"""Words of a vocabulary that a refusal lists at most."""
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def split(text: str) -> list[str]:
    """The words of a text in small letters, without punctuation."""
    return WORD.findall(unicodedata.normalize("NFC", text).lower())


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model knows, and the length of its captions. A token is a place in `words`; `padding` is the one after them.

    Captions shorter than `length` are filled up with padding, so that the empty caption is all padding.
    """

    words: tuple[str, ...]
    """Each once."""
    length: int
    """Tokens of a caption, padding included."""

    def __post_init__(self) -> None:
        if not self.words or len(set(self.words)) < len(self.words) or self.length < 1:
            raise ValueError(
                f"A vocabulary needs different words and captions of at least 1 token, not {len(self.words)} words, "
                f"{len(set(self.words))} of them different, and {self.length} tokens."
            )

    @classmethod
    def of(cls, texts: Iterable[str], *, most: int = 128) -> Vocabulary:
        """The words of captions, the commonest first, and the length of the longest caption, but at most `most`.

        Raises:
            ValueError: the captions hold no word.
        """
        found = [split(text) for text in texts]
        counts = Counter(word for words in found for word in words)
        if not counts:
            raise ValueError("The captions hold no word to learn from.")
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(tuple(ordered), min(most, max(map(len, found))))

    @property
    def padding(self) -> int:
        """The token that fills captions up."""
        return len(self.words)

    @cached_property
    def places(self) -> dict[str, int]:
        """The token of each word."""
        return {word: place for place, word in enumerate(self.words)}

    def prompts(self, texts: Sequence[str]) -> Tensor:
        """The tokens [B, length] of prompts, long.

        Raises:
            ValueError: a prompt is empty, has too many words, or one that the model does not know.
        """
        return self._rows([self._checked(text) for text in texts])

    def captions(self, texts: Sequence[str]) -> Tensor:
        """The tokens [B, length] of captions of data, long, cut at that length; words that are not of the vocabulary are left out."""
        return self._rows([[w for w in split(text) if w in self.places][: self.length] for text in texts])

    def empty(self, n: int) -> Tensor:
        """n empty captions [n, length]: all padding."""
        return torch.full((n, self.length), self.padding)

    def sentences(self, tokens: Tensor) -> list[str]:
        """The words of captions [B, length], without padding."""
        return [" ".join(self.words[i] for i in row if i < self.padding) for row in tokens.tolist()]

    def _checked(self, text: str) -> list[str]:
        words = split(text)
        if not words:
            raise ValueError(f"The prompt '{text}' is empty: write words, or sample without a prompt.")
        if len(words) > self.length:
            raise ValueError(f"The prompt '{text}' has {len(words)} words: this model takes at most {self.length}.")
        for word in words:
            if word not in self.places:
                raise ValueError(f"The prompt '{text}' has the unknown word '{word}': {self._allowed(word)}.")
        return words

    def _allowed(self, word: str) -> str:
        if len(self.words) <= LISTED:
            return f"this model knows {', '.join(self.words)}"
        near = difflib.get_close_matches(word, self.words, n=3, cutoff=0.0)
        return f"this model knows {len(self.words)} words; the nearest are {', '.join(near)}"

    def _rows(self, found: list[list[str]]) -> Tensor:
        tokens = self.empty(len(found))
        for row, words in zip(tokens, found, strict=True):
            row[: len(words)] = torch.tensor([self.places[word] for word in words], dtype=torch.long)
        return tokens
