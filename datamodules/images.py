"""Images with labels from the Hugging Face hub, or from a local folder of parquet files of the same columns."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.base import Batch, Data, Finite
from datamodules.files import check_column, open_folder, open_hub


class Images(Data):
    """Colour images [B, 3, size, size] in [-1, 1], with labels where `label` names a column.

    Args:
        batch: global batch.
        name: data set on the hub, such as 'uoft-cs/cifar10'.
        data_dir: local folder of parquet files instead; files whose name holds 'test' are held out.
        image: column of the images.
        label: column of the labels; '' for none.
        size: height and width that every image must have.
        flip: whether every training image also counts mirrored, as an example of its own.
        num_workers: processes that decode ahead.

    Raises:
        ValueError: the folder is empty or unreadable, a column is unknown, an image is corrupt or of another size.
    """

    def __init__(
        self,
        batch: int = 128,
        *,
        name: str = "uoft-cs/cifar10",
        data_dir: str = "",
        image: str = "img",
        label: str = "label",
        size: int = 32,
        classes: int = 10,
        flip: bool = True,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch, num_workers)
        self.name, self.data_dir, self.image, self.label = name, data_dir, image, label
        self.shape, self.classes, self.flip = (3, size, size), classes if label else 0, flip

    def setup(self, stage: str) -> None:
        train = self._open("train")
        take = partial(take_rows, train, self.image, self.label, self.shape[1])
        take(np.zeros(1, dtype=int))  # what is wrong with the images is said here, not in a process that loads ahead
        self.source = Finite(len(train) * (2 if self.flip else 1), take)

    def test(self, n: int | None = None) -> Batch:
        held_out = self._open("test")
        rows = np.arange(min(n or len(held_out), len(held_out)))
        return take_rows(held_out, self.image, self.label, self.shape[1], rows)

    def _open(self, split: str) -> Any:
        rows = open_folder(Path(self.data_dir), split) if self.data_dir else open_hub(self.name, split)
        for column in filter(None, (self.image, self.label)):
            check_column(rows, column, self.data_dir or self.name)
        return as_images(rows, self.image)


def as_images(rows: Any, column: str) -> Any:
    """The rows with `column` decoded on access, whether or not the files say that it holds images."""
    from datasets import Image

    try:
        return rows.cast_column(column, Image())
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"The column '{column}' does not hold images but {rows.features[column]}.") from error


def take_rows(rows: Any, image: str, label: str, size: int, index: np.ndarray) -> Batch:
    """Rows by index [B], where an index beyond the last row stands for the mirrored row."""
    mirrored = torch.from_numpy(index >= len(rows))
    try:
        found = rows[(index % len(rows)).tolist()]
        x = torch.stack([to_tensor(picture, size) for picture in found[image]])
    except (OSError, SyntaxError, AttributeError) as error:
        raise ValueError(f"An image in column '{image}' cannot be read ({error}): the file is corrupt.") from error
    x[mirrored] = x[mirrored].flip(3)
    return {"x": x, "label": torch.tensor(found[label])} if label else {"x": x}


def to_tensor(picture: Any, size: int) -> Tensor:
    """A PIL image -> [3, size, size] in [-1, 1]."""
    if picture.size != (size, size):
        raise ValueError(
            f"An image is {picture.size[0]}x{picture.size[1]}, not {size}x{size}: give its size, or resize."
        )
    pixels = torch.from_numpy(np.asarray(picture.convert("RGB")).copy())
    return pixels.permute(2, 0, 1).float() / 127.5 - 1
