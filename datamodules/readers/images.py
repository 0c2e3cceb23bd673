"""Images with labels from the Hugging Face hub, or from a local folder of parquet, image or IDX files."""

from __future__ import annotations

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
from datamodules.readers import idx
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
from datamodules.readers.pictures import centre, in_channels, upright
from datamodules.readers.streaming import Row, Streamed, each, shuffled


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
    "zalando-datasets/fashion_mnist": Known("image", "label", 28, 1, 10, licence="MIT"),
    "uoft-cs/cifar10": Known("img", "label", 32, 3, 10, flip=True, licence="not stated by its authors"),
    "flwrlabs/celeba": Known(
        "image", "", 64, resize=True, crop=140, flip=True, licence="CelebA's agreement: research that earns nothing"
    ),
    "benjamin-paine/imagenet-1k-64x64": Known(
        "image", "label", 64, 3, 1000, "validation", flip=True, licence="ImageNet's terms: research that earns nothing"
    ),
    "ILSVRC/imagenet-1k": Known(
        "image",
        "label",
        256,
        3,
        1000,
        "validation",
        resize=True,
        flip=True,
        licence="ImageNet's terms, which the hub asks each user to accept: research that earns nothing",
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
        data_dir: local folder instead, of parquet files, of image files (PNG, JPEG, WebP, BMP, GIF, TIFF) or of IDX files as MNIST
            comes (`idx`). Files that are of another split by their directory or name, such as test/ or val/, are not trained on
            (`files.split_of`). The label of an image file is its directory; where some lie in none and `label` is None, there
            are no labels. Hidden files and folders are no part of the set.
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
        in_memory: whether to decode all images once and keep their bytes, as is always done with IDX files; for sets of up to
            some 100,000 small images.
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
        if self._of_idx:
            self.source = self._in_memory(*self._read_idx("train"))
            return
        rows = self._open("train", self.streaming)
        first = next(iter(rows)) if self.streaming else rows[0]
        decoded([first], self.known, [self._row(0)])  # raise what is wrong here, not in a process that loads ahead
        if self.streaming:
            self.source = Streamed(self._size(rows), partial(shuffled, rows, self.buffer), self._take_stream)
        elif self.in_memory:
            self.source = self._in_memory(*decoded_all(rows, self.known, self.origin))
        else:
            take = partial(take_rows, rows, self.known, self.origin)
            self.source = Finite(len(rows) * self._sides, take, self._sides)

    def _in_memory(self, x: Tensor, label: Tensor | None) -> Finite:
        return Finite(len(x) * self._sides, partial(take_table, x, label), self._sides)

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
        if self._of_idx:
            x, label = self._read_idx(split)
            return as_batch(x[:n], None if label is None else label[:n])
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
    def _of_idx(self) -> bool:
        return bool(self.data_dir) and idx.are_in(Path(self.data_dir))

    def _read_idx(self, split: str) -> tuple[Tensor, Tensor | None]:
        if self.streaming:
            raise ValueError(f"The IDX files of {self.data_dir} are read whole, not streamed: leave streaming out.")
        images, labels = idx.read(Path(self.data_dir), split, labels=bool(self.known.label))
        return from_grey(images, self.known, self.origin), checked(labels, self.known, self.origin)

    @property
    def _sides(self) -> int:
        return 2 if self.known.flip else 1

    def _row(self, index: int) -> str:
        return f"row {index} of {self.origin}"

    def _take_stream(self, rows: list[Row], epoch: int) -> Batch:
        x, label = decoded(rows, self.known, [f"a row of {self.origin}"] * len(rows))
        return as_batch(x.flip(3) if self.known.flip and epoch % 2 else x, label)

    def _open(self, split: str, streaming: bool = False) -> Any:
        rows = self.open_rows(split, streaming)
        names = [name for name in (self.known.image, self.known.label) if name]
        for column in names:
            check_column(rows, column, self.origin)
        return undecoded(rows.select_columns(names), self.known.image)

    def open_rows(self, split: str, streaming: bool = False) -> Any:
        """The rows of a split, images not yet decoded, with all columns; see `files`."""
        if not self.data_dir:
            return open_hub(self.name, split, streaming=streaming)
        known, classes = self.known, self.known.classes if self.asked else None
        found = open_images(Path(self.data_dir), split, known.image, known.label, classes, hold_out=self.hold_out)
        if found is None:
            return open_parquet(Path(self.data_dir), split, "parquet, image or IDX files", streaming=streaming)
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


def from_grey(images: np.ndarray, known: Known, origin: str) -> Tensor:
    """Grey images, bytes [N, height, width] -> bytes [N, C, S, S]; colour is made of grey."""
    from PIL import Image

    high, wide = images.shape[1:]
    another = (high, wide) != (known.size, known.size)
    if known.resize and (another or known.crop):
        images = np.stack([centre(Image.fromarray(image), known.crop, known.size) for image in images])
    elif another:
        raise ValueError(size_of(f"The images of {origin} are", wide, high, known.size))
    x = torch.from_numpy(images.copy())[:, None]  # what numpy reads from bytes cannot be written to
    return x.expand(-1, known.channels, -1, -1).contiguous()


def checked(labels: np.ndarray | None, known: Known, origin: str) -> Tensor | None:
    """Labels [N] as integers.

    Raises:
        ValueError: one is not among the classes.
    """
    if labels is None:
        return None
    if (wrong := np.flatnonzero(labels >= known.classes)).size:
        raise ValueError(label_of(f"row {wrong[0]} of {origin}", int(labels[wrong[0]]), known.classes))
    return torch.from_numpy(labels.astype(np.int64))


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
            raise ValueError(label_of(name, row[known.label], known.classes))
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
        raise ValueError(size_of(f"The image {name} is", *found.size, known.size))
    return np.asarray(found).reshape(known.size, known.size, known.channels).transpose(2, 0, 1)


def size_of(subject: str, wide: int, high: int, size: int) -> str:
    """The sentence about images of another size."""
    return f"{subject} {wide}x{high}, not {size}x{size}: give its size, or set resize."


def label_of(name: str, label: object, classes: int) -> str:
    """The sentence about a label out of range."""
    return f"The label of {name} is {label!r}; there are {classes} classes, 0 to {classes - 1}."
