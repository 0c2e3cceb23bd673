"""Embeddings of noise levels and conditions, each condition with a learned null for examples where it is hidden or absent."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.conditions import UNCONDITIONAL, Cond, check_labels, label_rows

Features = Callable[[Tensor], Tensor]
"""t [N] -> features [N, F] of a noise level or another real number, from which its embedding is learned."""


def waves(t: Tensor, dim: int, low: float = 0.1, high: float = 30.0) -> Tensor:
    """Cosines and sines [B, dim] of t [B] at dim / 2 frequencies, geometric from `low` to `high` radians per unit of t.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    Differs: the frequencies suit logarithms of noise levels, which span about ten units, not token positions.
    """
    frequency = torch.logspace(math.log10(low), math.log10(high), dim // 2, device=t.device)
    angle = t.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], 1)


def index_waves(t: Tensor, dim: int, shift: int = 0) -> Tensor:
    """Cosines and sines [B, dim] of an index t [B], such as that of a noise level among 1000, at 10000^(-i / (dim / 2 - shift)) radians.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5, with all cosines first, as in the code of ADM and DiT. diffusers' DiT has
    `shift` 1, so that the last frequency is 1/10000.
    """
    steps = torch.arange(dim // 2, device=t.device, dtype=torch.float32)
    frequency = (
        -math.log(10000) * steps / (dim // 2 - shift)
    ).exp()  # in this order: an index of 999 multiplies rounding
    angle = t.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], 1)


def value_of(cond: Cond, name: str, size: int, null: Tensor) -> Tensor | None:
    """A field of the conditions on the device and in the type of `null`; None where it is absent.

    Raises:
        ValueError: it has another number of features (of an image: channels) than `size`.
    """
    value: Tensor | None = getattr(cond, name)
    if value is None:
        return None
    found = value.shape[1] if name == "image" else value.shape[-1]
    if found != size:
        of = "channels" if name == "image" else "features"
        raise ValueError(f"The network was built for a condition '{name}' of {size} {of}, not {found}.")
    return value.to(null)


def with_null(value: Tensor | None, null: Tensor, hidden: Tensor | None, n: int) -> Tensor:
    """[n, *D], with `null` in hidden rows; [n, *null] where the value is absent. `null` broadcasts to [*D]."""
    if value is None:
        return null.expand(n, *null.shape)
    if hidden is None:  # the null gets a gradient of 0, for DDP waits for one of every weight
        hidden = torch.zeros(n, dtype=torch.bool)
    return torch.where(hidden.to(value.device).reshape(n, *[1] * (value.ndim - 1)), null.to(value), value)


def perceptron(enter: int, width: int) -> nn.Sequential:
    """Two linear layers with SiLU between them."""
    return nn.Sequential(nn.Linear(enter, width), nn.SiLU(), nn.Linear(width, width))


class VectorEmbedding(nn.Module):
    """A linear map of `Cond.vector` [B, E] -> [B, width]; a learned vector takes the place of hidden and absent ones."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.null = nn.Parameter(torch.zeros(size))
        self.body = nn.Linear(size, width)

    def forward(self, cond: Cond, n: int) -> Tensor:
        """[n, width]."""
        value = value_of(cond, "vector", len(self.null), self.null)
        return self.body(with_null(value, self.null, cond.hidden.get("vector"), n))


class NumbersEmbedding(nn.Module):
    """An embedding [B, width] of the K numbers `Cond.numbers` [B, K]; a learned one takes the place of hidden and absent numbers.

    Args:
        count: K.
        width: of the result.
        features: of each number, as of the noise level.
    """

    def __init__(self, count: int, width: int, features: Features) -> None:
        super().__init__()
        self.count, self.features = count, features
        self.body = perceptron(count * features(torch.zeros(1, device="cpu")).shape[1], width)
        self.null = nn.Parameter(torch.zeros(width))

    def forward(self, cond: Cond, n: int) -> Tensor:
        """[n, width]."""
        value = value_of(cond, "numbers", self.count, self.null)
        if value is not None:
            value = self.body(self.features(value.flatten()).reshape(n, -1).to(self.null))
        return with_null(value, self.null, cond.hidden.get("numbers"), n)


class Conditioning(nn.Module):
    """One vector [B, width] of what a network is given about the noise level, [B], and of the conditions that it has a place for.

    Args:
        width: of the result.
        classes: number of labels; an example whose label is hidden or absent gets a learned row of its own. 0: no labels.
        vector: features of `Cond.vector`, 0 for none.
        numbers: count of `Cond.numbers`, 0 for none; they are embedded as the level is.
        features: of the level; None: waves that suit log sigma.
        elsewhere: fields of `Cond` that the network takes in other places.
    """

    def __init__(
        self,
        width: int,
        classes: int = 0,
        *,
        vector: int = 0,
        numbers: int = 0,
        features: Features | None = None,
        elsewhere: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.features = features or partial(waves, dim=max(16, width // 4 * 2))
        self.body = perceptron(self.features(torch.zeros(1, device="cpu")).shape[1], width)
        self.label = nn.Embedding(classes + 1, width) if classes else None
        self.vector = VectorEmbedding(vector, width) if vector else None
        self.numbers = NumbersEmbedding(numbers, width, self.features) if numbers else None
        own = {"label": classes, "vector": vector, "numbers": numbers}
        self.allowed = (*(name for name, size in own.items() if size), *elsewhere)

    @property
    def classes(self) -> int:
        """The number of labels, 0 for none."""
        return 0 if self.label is None else self.label.num_embeddings - 1

    def forward(self, level: Tensor, cond: Cond = UNCONDITIONAL) -> Tensor:
        """The vector [B, width]: the sum of the parts.

        Raises:
            ValueError: a condition is given that the network has no place for, or conditions of another number of examples.
        """
        first, *others = self.parts(level, cond)
        for part in others:
            first = first + part
        return first

    def parts(self, level: Tensor, cond: Cond = UNCONDITIONAL) -> list[Tensor]:
        """The embeddings [B, width] of the level and of each condition.

        Raises:
            ValueError: as `forward`.
        """
        n = len(level)
        cond.allow(*self.allowed)
        if cond.size not in (None, n):
            raise ValueError(f"The network got {n} examples, but conditions of {cond.size}.")
        found = [self.body(self.features(level).to(next(self.body.parameters())))]
        if self.label is not None:
            found.append(self.label(label_rows(cond, self.label.num_embeddings - 1, n, level.device)))
        found += [part(cond, n) for part in (self.vector, self.numbers) if part is not None]
        return found


def check_known(net: nn.Module, cond: Cond) -> None:
    """Refuse labels that are no class of the network. It waits for the device, so it is for drawing, not for training.

    Raises:
        ValueError: a label is out of range.
    """
    for part in net.modules():
        if cond.label is not None and isinstance(part, Conditioning | TokenEmbedding) and part.label is not None:
            check_labels(cond.label.cpu(), part.label.num_embeddings - 1)


class Tokens(NamedTuple):
    """Tokens that attention sees."""

    rows: Tensor
    """[B, L, E]."""
    mask: Tensor | None
    """Which count, [B, L], bool; None: all."""


class TokenEmbedding(nn.Module):
    """Tokens [B, L, width] of a text, of a label, and tokens that are made of a vector.

    A hidden or absent text becomes one learned token, whatever its length.

    Source: Saharia et al. 2022, arXiv:2205.11487, section 2.5 (layer normalisation of the text's features); Ramesh et al.
    2022, arXiv:2204.06125, section 2.1 (an image embedding as four extra tokens).

    Args:
        width: of a token.
        text: features of each token of `Cond.text`, 0 for no text.
        vector: features of `Cond.vector`; needed where `from_vector` is not 0.
        from_vector: tokens made of the vector.
        classes: number of labels, each of which is a token, as is none; 0 for no labels.
    """

    def __init__(self, width: int, *, text: int = 0, vector: int = 0, from_vector: int = 0, classes: int = 0) -> None:
        super().__init__()
        self.label = nn.Embedding(classes + 1, width) if classes else None
        self.size, self.count = text, from_vector
        self.text = nn.Sequential(nn.LayerNorm(text), nn.Linear(text, width)) if text else None
        self.null = nn.Parameter(torch.zeros(width)) if text else None
        self.vector = VectorEmbedding(vector, from_vector * width) if from_vector else None

    def forward(self, cond: Cond, n: int) -> Tokens:
        """The tokens of n examples."""
        found = [] if self.text is None else [self._of_text(cond, n)]
        if self.label is not None:
            rows = label_rows(cond, self.label.num_embeddings - 1, n, self.label.weight.device)
            found.append(Tokens(self.label(rows)[:, None], None))
        if self.vector is not None:
            found.append(Tokens(self.vector(cond, n).unflatten(1, (self.count, -1)), None))
        if all(tokens.mask is None for tokens in found):
            return Tokens(torch.cat([tokens.rows for tokens in found], 1), None)
        masks = [t.rows.new_ones(t.rows.shape[:2], dtype=torch.bool) if t.mask is None else t.mask for t in found]
        return Tokens(torch.cat([tokens.rows for tokens in found], 1), torch.cat(masks, 1))

    def _of_text(self, cond: Cond, n: int) -> Tokens:
        assert self.text is not None and self.null is not None
        value = value_of(cond, "text", self.size, self.null)
        if value is None:
            return Tokens(self.null.expand(n, 1, -1), None)
        rows, hidden = self.text(value), cond.hidden.get("text")
        mask = None if cond.mask is None else cond.mask.to(rows.device, torch.bool)
        if hidden is not None:
            hidden = hidden.to(rows.device)[:, None]
            first = torch.arange(rows.shape[1], device=rows.device)[None] == 0
            mask = torch.where(hidden, first, True if mask is None else mask)
        return Tokens(with_null(rows, self.null, cond.hidden.get("text"), n), mask)


class JoinedImage(nn.Module):
    """The channels of `Cond.image`, brought to the height and width of x, joined to those of x; learned ones where it is hidden or absent.

    Source: Ho et al. 2021, arXiv:2106.15282.

    Args:
        channels: of the image.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.null = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor, cond: Cond) -> Tensor:
        """[B, C, H, W] -> [B, C + channels, H, W]."""
        value = value_of(cond, "image", len(self.null), self.null)
        if value is not None:
            value = resized(value, x.shape[2], x.shape[3])
        image = with_null(value, self.null, cond.hidden.get("image"), len(x))
        return torch.cat([x, image.expand(-1, -1, *x.shape[2:]).to(x)], 1)


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """An image [B, C, h, w] at another size, bilinear; where it shrinks, without aliasing."""
    if image.shape[2:] == (height, width):
        return image
    shrinks = height < image.shape[2] or width < image.shape[3]
    return F.interpolate(image, (height, width), mode="bilinear", antialias=shrinks)
