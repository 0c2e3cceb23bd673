"""Images with labels from the Hugging Face hub, or from a local folder of parquet or image files."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.base import Batch, Data, Finite
from datamodules.readers.files import (
    PICTURES,
    check_column,
    count,
    have_classes,
    holds,
    open_hub,
    open_images,
    open_parquet,
)
from datamodules.readers.streaming import Row, Streamed, each, shuffled

DEEP = ("I", "F")
"""Beginnings of Pillow's modes with more than 8 bits for a channel."""
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
    EOFError,
    struct.error,
)
"""What Pillow raises for files that it cannot decode."""


@dataclass(frozen=True)
class Known:
    """A data set of images: its columns, the size of its images, and how they are changed."""

    image: str = "image"
    label: str = ""
    size: int = 32
    channels: int = 3
    classes: int = 0
    held_out: str = "test"
    """Split that is not trained on."""
    resize: bool = False
    crop: int = 0
    flip: bool = False
    licence: str = ""
    """Under which terms it may be used; for people to read."""


KNOWN = {
    "ylecun/mnist": Known("image", "label", 28, 1, 10, licence="MIT"),
    "uoft-cs/cifar10": Known("img", "label", 32, 3, 10, flip=True, licence="not stated by its authors"),
    "flwrlabs/celeba": Known(
        "image", "", 64, resize=True, crop=140, flip=True, licence="CelebA's agreement: research that earns nothing"
    ),
    "benjamin-paine/imagenet-1k-64x64": Known(
        "image", "label", 64, 3, 1000, "validation", flip=True, licence="ImageNet's terms: research that earns nothing"
    ),
}
"""Sets on the hub by name. CelebA's 40 attributes are columns of their own: label='Smiling', classes=2."""


class Images(Data):
    """Images [B, channels, size, size] in [-1, 1], with labels where `label` names a column.

    An argument that is None is taken from `KNOWN[name]`; for a set that is not there: the column 'image' of 32x32 colour
    images, without labels, not mirrored.

    Args:
        batch: global batch.
        name: data set on the hub, such as 'uoft-cs/cifar10'; with `data_dir`, whose columns and sizes its files have.
        data_dir: local folder instead, of parquet files or of image files (PNG, JPEG, WebP, BMP, GIF, TIFF). Files that are of
            another split by their directory or name, such as test/ or val/, are not trained on (`files.split_of`). The label
            of an image file is its directory; where some lie in none and `label` is None, there are no labels. Hidden files
            and folders are no part of the set.
        image: column of the images.
        label: column of the labels; '' for none.
        size: height and width that every image must have, or is brought to by `resize`.
        channels: 3, or 1 for grey images.
        classes: number of labels, which are 0 to classes-1.
        resize: whether to cut out the centre square and resize it (bicubic, antialiased); without, another size is refused.
        crop: side of that square; 0 for the largest.
        flip: whether every training image also counts mirrored, as an example of its own; streamed, every other epoch is
            mirrored.
        hold_out: of a folder of image files all of which are of 'train', hold out every tenth.
        in_memory: whether to decode all images once and keep their bytes; for sets of up to some 100,000 small images.
        streaming: whether to read the files from beginning to end instead of by index; nothing is stored.
        buffer: rows among which a stream is shuffled.
        num_workers: processes that decode ahead.

    Photos are turned upright as their EXIF orientation says. Transparent pixels lie on white.

    Raises:
        ValueError: the settings contradict each other; in `setup`: the folder is empty or unreadable, a column is unknown,
            an image is corrupt, of another size or kind (it is named), or a label is out of range.
    """

    levels = 256

    def __init__(
        self,
        *,
        batch: int = 128,
        name: str = "uoft-cs/cifar10",
        data_dir: str = "",
        image: str | None = None,
        label: str | None = None,
        size: int | None = None,
        channels: int | None = None,
        classes: int | None = None,
        resize: bool | None = None,
        crop: int | None = None,
        flip: bool | None = None,
        hold_out: bool = False,
        in_memory: bool = False,
        streaming: bool = False,
        buffer: int = 10_000,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch=batch, num_workers=num_workers)
        if in_memory and streaming:
            raise ValueError("Images are either kept in memory or streamed: set in_memory or streaming, not both.")
        given = {"image": image, "label": label, "size": size, "channels": channels, "classes": classes}
        given |= {"resize": resize, "crop": crop, "flip": flip}
        self.known = replace(KNOWN.get(name, Known()), **{k: v for k, v in given.items() if v is not None})
        self.asked = bool(label)
        if data_dir and not self.asked and self.known.label and not have_classes(Path(data_dir)):
            self.known = replace(self.known, label="", classes=0)
        if buffer < 1:
            raise ValueError(f"buffer is {buffer}: a stream is shuffled among at least 1 row.")
        if self.known.channels not in (1, 3):
            raise ValueError(f"channels is {self.known.channels}: images have 3, or 1 if they are grey.")
        self.name, self.data_dir, self.origin = name, data_dir, data_dir or name
        self.hold_out, self.in_memory, self.streaming, self.buffer = hold_out, in_memory, streaming, buffer
        self.shape = (self.known.channels, self.known.size, self.known.size)
        self.classes = self.known.classes if self.known.label else 0

    def setup(self, stage: str) -> None:
        if self.source is not None:
            return
        rows = self._open("train", self.streaming)
        first = next(iter(rows)) if self.streaming else rows[0]
        decoded([first], self.known, [self._row(0)])  # raise what is wrong here, not in a process that loads ahead
        if self.streaming:
            self.source = Streamed(self._size(rows), partial(shuffled, rows, self.buffer), self._take_stream)
        elif self.in_memory:
            x, label = decoded_all(rows, self.known, self.origin)
            self.source = Finite(len(x) * self._sides, partial(take_table, x, label), self._sides)
        else:
            take = partial(take_rows, rows, self.known, self.origin)
            self.source = Finite(len(rows) * self._sides, take, self._sides)

    def test(self, n: int | None = None) -> Batch:
        return self._held(self.known.held_out, n)

    def validation(self, n: int | None = None) -> Batch | None:
        """The first n images of the split 'validation' of a folder that has a split 'test' too; None without both."""
        if self.known.held_out != "test" or not self.data_dir or self.streaming:
            return None
        folder, endings = Path(self.data_dir), {*PICTURES, ".parquet"}
        both = holds(folder, "valid", endings) and holds(folder, "test", endings)
        return self._held("validation", n) if both else None

    def _held(self, split: str, n: int | None) -> Batch:
        rows = self._open(split, self.streaming)
        if self.streaming:  # by index, the hub would send the whole set
            found = list(islice(each(rows), n))
            return as_batch(*decoded(found, self.known, [self._row(i) for i in range(len(found))]))
        return take_rows(rows, self.known, self.origin, np.arange(min(n or len(rows), len(rows))))

    @property
    def part(self) -> str:  # type: ignore[override]
        """What `test` gives: 'validation' where the set has no other held-out images."""
        where, endings = Path(self.data_dir), {*PICTURES, ".parquet"}
        instead = self.data_dir and holds(where, "valid", endings) and not holds(where, "test", endings)
        return "validation" if instead or self.known.held_out == "validation" else "test"

    @property
    def _sides(self) -> int:
        return 2 if self.known.flip else 1

    def _row(self, index: int) -> str:
        return f"row {index} of {self.origin}"

    def _take_stream(self, rows: list[Row], epoch: int) -> Batch:
        x, label = decoded(rows, self.known, [f"a row of {self.origin}"] * len(rows))
        return as_batch(x.flip(3) if self.known.flip and epoch % 2 else x, label)

    def _open(self, split: str, streaming: bool = False) -> Any:
        rows = self._rows(split, streaming)
        names = [name for name in (self.known.image, self.known.label) if name]
        for column in names:
            check_column(rows, column, self.origin)
        return undecoded(rows.select_columns(names), self.known.image)

    def _rows(self, split: str, streaming: bool) -> Any:
        if not self.data_dir:
            return open_hub(self.name, split, streaming=streaming)
        known, classes = self.known, self.known.classes if self.asked else None
        found = open_images(Path(self.data_dir), split, known.image, known.label, classes, hold_out=self.hold_out)
        if found is None:
            return open_parquet(Path(self.data_dir), split, "parquet or image files", streaming=streaming)
        return found.to_iterable_dataset() if streaming else found

    def _size(self, rows: Any) -> int:
        if self.data_dir:
            return count(Path(self.data_dir), "train", hold_out=self.hold_out)
        info = (rows.info.splits or {}).get("train")
        if info is None or not info.num_examples:
            raise ValueError(f"The hub does not say how many rows {self.name} has: set streaming=False.")
        return info.num_examples


def undecoded(rows: Any, column: str) -> Any:
    """The rows with `column` as files, whether or not their schema declares it as images."""
    from datasets import Image

    try:
        return rows.cast_column(column, Image(decode=False))
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"The column '{column}' does not hold images but {rows.features[column]}.") from error


def take_rows(rows: Any, known: Known, origin: str, index: np.ndarray) -> Batch:
    """Rows by index [B], where an index beyond the last row stands for the mirrored row."""
    places = (index % len(rows)).tolist()
    x, label = decoded(fetched(rows, places), known, [f"row {i} of {origin}" for i in places])
    mirrored = torch.from_numpy(index >= len(rows))
    x[mirrored] = x[mirrored].flip(3)
    return as_batch(x, label)


def fetched(rows: Any, places: list[int]) -> list[Row]:
    """Rows by index, read at once."""
    columns = rows[places]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def take_table(x: Tensor, label: Tensor | None, index: np.ndarray) -> Batch:
    """`take_rows` of images that are decoded already: x [N, C, S, S] uint8, label [N]."""
    places = torch.from_numpy(index % len(x))
    found = x.index_select(0, places)
    mirrored = torch.from_numpy(index >= len(x))
    if mirrored.any():
        found = torch.where(mirrored[:, None, None, None], found.flip(3), found)
    return as_batch(found, None if label is None else label.index_select(0, places))


def as_batch(x: Tensor, label: Tensor | None) -> Batch:
    """Bytes [B, C, S, S] -> 'x' in [-1, 1]."""
    x = x.float().div_(127.5).sub_(1)
    return {"x": x} if label is None else {"x": x, "label": label}


def decoded_all(rows: Any, known: Known, origin: str) -> tuple[Tensor, Tensor | None]:
    """Every image and label, in parts that keep little else in memory."""
    parts = []
    for first in range(0, len(rows), 1024):
        places = list(range(first, min(first + 1024, len(rows))))
        parts.append(decoded(fetched(rows, places), known, [f"row {i} of {origin}" for i in places]))
    labels = torch.cat([label for _, label in parts]) if known.label else None  # type: ignore[misc]
    return torch.cat([x for x, _ in parts]), labels


def decoded(rows: Sequence[Row], known: Known, names: Sequence[str]) -> tuple[Tensor, Tensor | None]:
    """Bytes [B, C, S, S] and labels [B] of rows; the names are for what is wrong with one."""
    x = np.ascontiguousarray([pixels(row[known.image], known, n) for row, n in zip(rows, names, strict=True)])
    if not known.label:
        return torch.from_numpy(x), None
    for row, name in zip(rows, names, strict=True):
        if not isinstance(row[known.label], int) or not 0 <= row[known.label] < known.classes:
            raise ValueError(
                f"The label of {name} is {row[known.label]!r}; there are {known.classes} classes, 0 to {known.classes - 1}."
            )
    return torch.from_numpy(x), torch.tensor([int(row[known.label]) for row in rows])


def pixels(picture: dict[str, Any] | None, known: Known, name: str) -> np.ndarray:
    """An encoded image -> bytes [channels, size, size], upright."""
    if picture is None or not (picture["bytes"] or picture["path"]):
        raise ValueError(f"There is no image in {name}: remove the row, or fill it in.")
    name = name if picture["bytes"] else picture["path"]
    found = in_channels(upright(picture, name), known.channels, name)
    if known.resize:
        found = centre(found, known.crop, known.size)
    if found.size != (known.size, known.size):
        raise ValueError(
            f"The image {name} is {found.size[0]}x{found.size[1]}, not {known.size}x{known.size}: "
            "give its size, or set resize."
        )
    return np.asarray(found).reshape(known.size, known.size, known.channels).transpose(2, 0, 1)


def upright(picture: dict[str, Any], name: str) -> Any:
    """The decoded image, turned and mirrored as its EXIF orientation says.

    Raises:
        ValueError: it cannot be decoded, or it holds several pictures.
    """
    from PIL import Image, ImageOps

    try:
        opened = Image.open(io.BytesIO(picture["bytes"]) if picture["bytes"] else picture["path"])
        frames = (
            1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)
        )  # MPO: a photo, and what else the camera added
        opened.load()
        ImageOps.exif_transpose(opened, in_place=True)
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise ValueError(f"The image {name} cannot be read ({error}): the file is corrupt.") from error
    if frames > 1:
        raise ValueError(
            f"The image {name} is moving or has pages ({frames} pictures in one file): save them as files of their own."
        )
    return opened


def in_channels(picture: Any, channels: int, name: str) -> Any:
    """The image in colour or grey; colour is made of grey, and never grey of colour."""
    bands = picture.getbands()
    if picture.mode.startswith(DEEP):
        raise ValueError(f"The image {name} has values of more than 8 bits (mode {picture.mode}): 0 to 255 is needed.")
    if channels == 1 and (len(bands) > 2 or picture.mode.startswith("P")):
        raise ValueError(f"The image {name} has the channels {''.join(bands)}, not 1 grey one: set channels to 3.")
    mode = "L" if channels == 1 else "RGB"
    try:
        if not picture.has_transparency_data:
            return picture.convert(mode)
        return on_white(picture).convert(mode)
    except BROKEN as error:
        raise ValueError(
            f"The image {name} cannot be brought from the mode {picture.mode} to {mode} ({error})."
        ) from error


def on_white(picture: Any) -> Any:
    """An image with transparent pixels, in colour on a white ground."""
    from PIL import Image

    above = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")


def centre(picture: Any, crop: int, size: int) -> Any:
    """The centre square of side `crop` (0: the largest) brought to `size`."""
    from PIL import Image

    wide, high = picture.size
    side = crop or min(wide, high)
    left, top = round((wide - side) / 2), round((high - side) / 2)
    return picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
