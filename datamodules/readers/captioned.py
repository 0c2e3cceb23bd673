"""Images with captions: a folder of image files with `captions.csv` or the like, or parquet files with a column of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules import emoji
from datamodules.base import Batch, Data, Finite
from datamodules.labs.shapes import Shapes
from datamodules.readers.captions import missing, of_files
from datamodules.readers.files import PICTURES, among, check_column
from datamodules.readers.images import Images

COLUMNS = ("caption", "captions", "text", "prompt", "sentences")
"""Names of a column of captions in parquet files."""
Encode = Callable[[Sequence[str]], Tensor]
"""Captions -> tokens [B, L], long."""


class Captioned(Data):
    """Images [B, 3, size, size] in [-1, 1] with 'caption' [B, L], long: the tokens that `encode` makes of their texts.

    An image with several captions counts as several examples. Of held-out images the first caption counts.

    Args:
        batch: global batch.
        name: data set on the hub, with a column of captions.
        data_dir: local folder instead: image files with captions as `captions.of_files` finds them, or parquet files.
        image: column of the images in parquet files.
        text: column of the captions there, texts or lists of texts; '' finds it where it is called as in COLUMNS.
        size: height and width to which images are brought.
        flip: whether every training image also counts mirrored; captions that say left and right then err.
        num_workers: processes that decode ahead.

    Raises:
        ValueError: in `texts` and `setup`, as `Images`; or a column is unknown, or images have no caption (which, and how many).
    """

    levels = 256

    def __init__(
        self,
        *,
        batch: int = 128,
        name: str = "",
        data_dir: str = "",
        image: str = "image",
        text: str = "",
        size: int = 32,
        flip: bool = False,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch=batch, num_workers=num_workers)
        self.images = Images(
            name=name, data_dir=data_dir, image=image, label="", size=size, channels=3, resize=True, flip=flip,
            hold_out=True,
        )  # fmt: skip
        self.text, self.shape = text, self.images.shape
        self.encode: Encode | None = None
        """Set by whoever knows the model's words, before the data are set up."""
        self._texts: dict[str, list[list[str]]] = {}

    @property
    def part(self) -> str:  # type: ignore[override]
        """What `test` gives: 'validation' where the set has no other held-out images."""
        return self.images.part

    def texts(self, split: str = "train") -> list[list[str]]:
        """The captions of each image of a split.

        Raises:
            ValueError: as the class.
        """
        if split not in self._texts:
            self._texts[split] = self._read(split)
        return self._texts[split]

    def setup(self, stage: str) -> None:
        if self.source is not None:
            return
        texts = self.texts()
        self.images.setup(stage)
        source = self.images.source
        assert isinstance(source, Finite)
        rows = np.repeat(np.arange(len(texts)), [len(of_one) for of_one in texts])
        tokens = self._tokens([text for of_one in texts for text in of_one])
        take = partial(take_pairs, source.take, rows, tokens, source.size // source.forms)
        self.source = Finite(len(rows) * source.forms, take, source.forms)

    def test(self, n: int | None = None) -> Batch:
        batch = self.images.test(n)
        return batch | {"caption": self._tokens([of_one[0] for of_one in self.texts("test")[: len(batch["x"])]])}

    def blank(self, n: int) -> Batch:
        return super().blank(n) | {"caption": self._tokens([self.texts()[0][0]] * n)}

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        if self.encode is None:
            raise ValueError("The captions have no vocabulary yet: set 'encode' before the data are set up.")
        return self.encode(texts)

    def _read(self, split: str) -> list[list[str]]:
        folder = Path(self.images.data_dir)
        if self.images.data_dir and (files := among(folder, split, PICTURES, hold_out=True)):
            return of_files(folder, files)
        rows = self.images.open_rows(split)
        column = self.text or next((name for name in COLUMNS if name in rows.column_names), COLUMNS[0])
        check_column(rows, column, self.images.origin)
        return of_rows(rows[column], f"rows of {self.images.origin}")


def of_rows(column: Sequence[Any], what: str) -> list[list[str]]:
    """The captions of each row of a column of texts or of lists of them.

    Raises:
        ValueError: rows have none (which, and how many), or the column holds something else.
    """
    found = []
    for value in column:
        of_one = value if isinstance(value, list) else [value]
        if not all(text is None or isinstance(text, str) for text in of_one):
            raise ValueError(
                f"The {what} have captions that are no texts but {type(of_one[0]).__name__}: name a column of texts."
            )
        found.append([text.strip() for text in of_one if text and text.strip()])
    if without := [f"row {i}" for i, of_one in enumerate(found) if not of_one]:
        raise ValueError(missing(what, without, len(found)))
    return found


def take_pairs(
    images: Callable[[np.ndarray], Batch], rows: np.ndarray, tokens: Tensor, count: int, index: np.ndarray
) -> Batch:
    """Examples by index [B]: the image of a pair, mirrored beyond the last pair, and its caption.

    Args:
        images: indices of images -> batch; `count` later each is mirrored.
        rows: the image [N] of each pair.
        tokens: the caption [N, L] of each pair.
        count: images.
    """
    pair, mirrored = index % len(rows), index // len(rows)
    return images(rows[pair] + mirrored * count) | {"caption": tokens[torch.from_numpy(pair)]}


def read(data: str, *, size: int = 0, text: str = "") -> Captioned | Shapes:
    """The images with captions that a user means by a word: a folder, a set on the hub ('owner/name'), 'emoji', or 'shapes'.

    Args:
        size: height and width; 0: 32.
        text: column of the captions in parquet files.

    Raises:
        ValueError: there are no such data, or the emoji cannot be fetched.
    """
    if data == "shapes":
        return Shapes(side=size or 32)
    if data == "emoji":
        return Captioned(data_dir=str(emoji.folder(size or 32)), size=size or 32)
    if data and Path(data).expanduser().is_dir():
        return Captioned(data_dir=str(Path(data).expanduser()), size=size or 32, text=text)
    if data.count("/") == 1 and data[0] not in "./~":
        return Captioned(name=data, size=size or 32, text=text)
    raise ValueError(
        f"There are no images with captions '{data}': give a folder of images with a captions.csv or of parquet files, a set on the hub "
        "(owner/name), emoji, or shapes."
    )
