"""Pictures of one coloured shape on a plain ground, with all their attributes, and a reader of the attributes from the pixels.

A picture is drawn without smoothing, so its attributes can be read back without error, its probability is known, and so
is the entropy of all pictures. Of pictures that a model made, the reader gives the attributes that fit best, and how well.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.base import Batch, Data, Endless, test_set

KINDS = ("circle", "square", "triangle", "diamond", "cross")
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 210, 50),
    "magenta": (200, 60, 200),
    "cyan": (60, 205, 215),
}
GROUNDS = {"black": (0, 0, 0), "grey": (128, 128, 128), "white": (255, 255, 255)}
SIZES = {"small": 5, "large": 9}
"""Radius in pixels of a picture of 32; twice that for 64."""
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
WORDS = (*["a", "at", "the", "on", "ground"], *SIZES, *COLOURS, *KINDS, *ROWS, *COLUMNS, *GROUNDS)
"""The vocabulary of captions; a token is a place in it."""
PALETTE = torch.tensor([*COLOURS.values(), *GROUNDS.values()]).float() / 127.5 - 1


class Attributes(NamedTuple):
    """Attributes of pictures, each long [B]."""

    kind: Tensor
    """Place in KINDS."""
    colour: Tensor
    """Place in COLOURS."""
    ground: Tensor
    """Place in GROUNDS."""
    size: Tensor
    """Place in SIZES."""
    row: Tensor
    """Of the pixel at the shape's centre, from the top."""
    column: Tensor
    """Of that pixel, from the left."""


class Read(NamedTuple):
    """What `read` finds in pictures [B]."""

    attributes: Attributes
    overlap: Tensor
    """[B]: area that the shape seen and the best fitting one share, over that of both together; 1 is perfect."""


class Shapes(Data):
    """Pictures [B, 3, side, side] in [-1, 1] of all shapes, colours, grounds, sizes and places; fresh at every step.

    A batch holds 'x', 'label' (the kind, [B] long), 'attributes' [B, 6] long in the order of `Attributes`, 'caption'
    [B, 12] long (`words` gives the sentence), 'mask' and 'edges' [B, 1, side, side] in {0, 1}, and 'low'
    [B, 3, side / 4, side / 4], the means of 4x4 pixels.

    Args:
        batch: global batch.
        side: 32 or 64.

    Raises:
        ValueError: another side.
    """

    classes = len(KINDS)

    def __init__(self, *, batch: int = 128, side: int = 32) -> None:
        super().__init__(batch=batch)
        if side not in (32, 64):
            raise ValueError(f"side is {side}: pictures of shapes have 32 or 64 pixels.")
        self.side, self.shape = side, (3, side, side)
        self.source = Endless(self.draw)

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        """n pictures and their attributes."""
        return with_everything(draw_attributes(n, self.side, rng), self.side)

    def test(self, n: int | None = None) -> Batch:
        return test_set(self.draw, n or 1024)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log probability [B] in nats of pictures x [B, *shape]; -inf of those that are never drawn."""
        seen = read(x).attributes
        possible = (paint(seen, self.side) - x.cpu()).abs().flatten(1).amax(1) < 1e-4
        return torch.where(possible, -choices(self.side)[seen.size].log(), -math.inf)

    def entropy(self) -> float:
        """Entropy of a picture, in nats."""
        return choices(self.side).log().mean().item()


def radii(side: int) -> Tensor:
    """Radius in pixels of each size, [len(SIZES)]."""
    return torch.tensor(list(SIZES.values())) * side // 32


def choices(side: int) -> Tensor:
    """How many times less likely than 1 a picture of each size is, [len(SIZES)] float64."""
    places = (side - 2 * radii(side)).double() ** 2
    return len(KINDS) * len(COLOURS) * len(GROUNDS) * len(SIZES) * places


def draw_attributes(n: int, side: int, rng: torch.Generator) -> Attributes:
    """Each independent and uniform; the centre among the places where the whole shape is in the picture."""
    kind, colour, ground, size = (
        torch.randint(len(which), (n,), generator=rng) for which in (KINDS, COLOURS, GROUNDS, SIZES)
    )
    radius = radii(side)[size]
    row, column = (
        radius + (torch.rand(n, generator=rng, dtype=torch.float64) * (side - 2 * radius)).long() for _ in range(2)
    )
    return Attributes(kind, colour, ground, size, row, column)


def inside(kind: str, radius: int) -> Tensor:
    """The shape as a mask [2 * radius + 1, 2 * radius + 1], bool, around its centre."""
    line = torch.arange(-radius, radius + 1)
    y, x = line[:, None], line[None]
    if kind == "circle":
        return x**2 + y**2 <= radius**2
    if kind == "square":
        return (x.abs() < radius) & (y.abs() < radius)
    if kind == "triangle":
        return 2 * x.abs() <= y + radius
    if kind == "diamond":
        return x.abs() + y.abs() <= radius
    return torch.minimum(x.abs(), y.abs()) <= radius // 3


@cache
def templates(side: int) -> Tensor:
    """Every kind in every size, [KINDS * SIZES, S, S] float32, S = 2 * the largest radius + 1, each at the centre."""
    largest = int(radii(side).max())
    masks = [
        F.pad(inside(kind, r).float(), [largest - r] * 4, value=0.0) for kind in KINDS for r in radii(side).tolist()
    ]
    return torch.stack(masks)


def silhouettes(of: Attributes, side: int) -> Tensor:
    """Masks [B, side, side], bool."""
    found = templates(side)[of.kind * len(SIZES) + of.size]
    reach = found.shape[1] // 2
    line = torch.arange(side)
    y = line[None, :, None] - of.row[:, None, None] + reach
    x = line[None, None] - of.column[:, None, None] + reach
    within = (y >= 0) & (y < found.shape[1]) & (x >= 0) & (x < found.shape[1])
    last = found.shape[1] - 1
    return within & (found[torch.arange(len(found))[:, None, None], y.clamp(0, last), x.clamp(0, last)] > 0)


def paint(of: Attributes, side: int) -> Tensor:
    """Pictures [B, 3, side, side] in [-1, 1]."""
    shape, ground = PALETTE[of.colour], PALETTE[len(COLOURS) + of.ground]
    mask = silhouettes(of, side)[:, None]
    return torch.where(mask, shape[:, :, None, None], ground[:, :, None, None])


def with_everything(of: Attributes, side: int) -> Batch:
    """The batch of pictures with these attributes, as `Shapes` describes it."""
    mask = silhouettes(of, side)[:, None].float()
    x = paint(of, side)
    return {
        "x": x,
        "label": of.kind,
        "attributes": torch.stack(of, 1),
        "caption": caption(of, side),
        "mask": mask,
        "edges": edges(mask),
        "low": F.avg_pool2d(x, 4),
    }


def edges(mask: Tensor) -> Tensor:
    """Pixels of masks [B, 1, S, S] that have one of their four neighbours outside it (or outside the picture)."""
    around = F.pad(mask, (1, 1, 1, 1))
    up, down, left, right = around[..., :-2, 1:-1], around[..., 2:, 1:-1], around[..., 1:-1, :-2], around[..., 1:-1, 2:]
    return mask * (1 - up * down * left * right)


def caption(of: Attributes, side: int) -> Tensor:
    """'a small red circle at the top left on the white ground' as tokens [B, 12]; which third the centre is in."""
    third = torch.stack([of.row, of.column]) * 3 // side

    def token(names: tuple[str, ...], place: Tensor) -> Tensor:
        return torch.tensor([WORDS.index(name) for name in names])[place]

    def always(word: str) -> Tensor:
        return torch.full_like(of.kind, WORDS.index(word))

    parts = [always("a"), token(tuple(SIZES), of.size), token(tuple(COLOURS), of.colour), token(KINDS, of.kind)]
    parts += [always("at"), always("the"), token(ROWS, third[0]), token(COLUMNS, third[1])]
    parts += [always("on"), always("the"), token(tuple(GROUNDS), of.ground), always("ground")]
    return torch.stack(parts, 1)


def words(tokens: Tensor) -> list[str]:
    """The sentences of captions [B, 12]."""
    return [" ".join(WORDS[i] for i in row) for row in tokens.tolist()]


def read(x: Tensor) -> Read:
    """The attributes of pictures x [B, 3, side, side]: exact of those drawn here, the best fitting of others.

    Every pixel counts as the nearest colour of the palette. The ground is the commonest of its colours on the border,
    the shape's colour the commonest of the others; kind, size and place are those of the largest overlap.

    Raises:
        ValueError: the pictures have another shape, or hold NaN.
    """
    seen, colour, ground = silhouette(x)
    which, place, overlap = best_fit(seen)
    side = x.shape[2]
    kind, size = which // len(SIZES), which % len(SIZES)
    return Read(Attributes(kind, colour, ground, size, place // side, place % side), overlap)


class Silhouette(NamedTuple):
    """What `silhouette` sees in pictures [B]."""

    mask: Tensor
    """[B, side, side] in {0, 1}: the pixels of the shape's colour."""
    colour: Tensor
    """Place in COLOURS, [B]."""
    ground: Tensor
    """Place in GROUNDS, [B]."""


def silhouette(x: Tensor) -> Silhouette:
    """The shape's pixels and the colours of pictures x [B, 3, side, side], which `read` begins with.

    Raises:
        ValueError: as `read`.
    """
    if x.dim() != 4 or x.shape[1] != 3 or x.shape[2] != x.shape[3] or x.shape[2] not in (32, 64):
        raise ValueError(f"Pictures of shape {tuple(x.shape)} cannot be read: [B, 3, S, S] is needed, S 32 or 64.")
    if not x.isfinite().all():
        raise ValueError("The pictures hold NaN or infinite values: values in [-1, 1] are needed.")
    nearest = nearest_colour(x.detach().float().cpu())
    border = torch.cat([nearest[:, 0], nearest[:, -1], nearest[:, :, 0], nearest[:, :, -1]], 1)
    ground = commonest(border, range(len(COLOURS), len(PALETTE)))
    colour = commonest(nearest.flatten(1), range(len(COLOURS)))
    return Silhouette((nearest == colour[:, None, None]).float(), colour, ground)


def nearest_colour(x: Tensor) -> Tensor:
    """Places in the palette [B, S, S]."""
    gaps = (x[:, None] - PALETTE[None, :, :, None, None]).square().sum(2)
    return gaps.argmin(1)


def commonest(places: Tensor, among: range) -> Tensor:
    """Which of `among` is commonest in each row of places [B, N], counted from the first of them; [B] long."""
    return torch.stack([(places == k).sum(1) for k in among], 1).argmax(1)


def best_fit(mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Template, centre (row * S + column) and overlap of the template that fits masks [B, S, S] best; each [B]."""
    found = templates(mask.shape[1])
    shared = F.conv2d(mask[:, None], found[:, None], padding=found.shape[1] // 2)
    both = mask.sum((1, 2))[:, None, None, None] + found.sum((1, 2))[None, :, None, None] - shared
    overlap, best = (shared / both).flatten(1).max(1)
    area = mask.shape[1] * mask.shape[2]
    return best // area, best % area, overlap
