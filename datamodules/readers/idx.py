"""Images and labels in IDX files, as MNIST and Fashion-MNIST come: `train-images-idx3-ubyte` and three more, gzipped or not.

Source: LeCun, Cortes & Burges, "The MNIST database of handwritten digits", section "File formats". A file has two bytes 0, a byte
for the type of its entries (8: bytes), a byte for the number of dimensions, each dimension in four bytes, the highest first, and
the entries.
"""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

import numpy as np

from datamodules.readers.files import PICTURES, split_of, visible

NAME = re.compile(r"(images|labels)[.-]idx[13]-ubyte(\.gz)?$")
"""How the name of a file ends."""
BYTES = 8
"""Type of the entries of all files that are read here."""


def are_in(folder: Path) -> bool:
    """Whether a folder holds IDX files of images, and neither image nor parquet files, which come before them."""
    found = False
    for file in visible(folder, set()):
        if file.suffix.lower() in {*PICTURES, ".parquet"}:
            return False
        found = found or is_of(file, "images")
    return found


def side(folder: Path) -> int:
    """Height or width, the smaller one, of the images of a folder's first IDX file."""
    return min(array(named(folder, "images")[0], "images").shape[1:])


def classes(folder: Path) -> int:
    """The largest label in a folder's IDX files and 1; 0 where there are no labels."""
    return max((int(array(file, "labels").max(initial=0)) + 1 for file in named(folder, "labels")), default=0)


def read(folder: Path, split: str, *, labels: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """All images [N, height, width] of a split, bytes, and if wanted their labels [N].

    Raises:
        ValueError: the folder lacks a file or holds two of a kind, a file cannot be read, or there is another number of labels.
    """
    file = only(folder, "images", split)
    images = array(file, "images")
    if not len(images):
        raise ValueError(f"The file {file} has no images: remove it, or download it again.")
    if not labels:
        return images, None
    found = array(other := only(folder, "labels", split), "labels")
    if len(found) != len(images):
        raise ValueError(
            f"There are {len(images)} images in {file}, but {len(found)} labels in {other}: give files of one set."
        )
    return images, found


def only(folder: Path, what: str, split: str) -> Path:
    """The one file of 'images' or 'labels' that belongs to a split.

    Raises:
        ValueError: there is none, or there are several.
    """
    files = [file for file in named(folder, what) if split_of_idx(file.relative_to(folder)) == split]
    if not files:
        name = f"{'t10k' if split == 'test' else split}-{what}-idx{3 if what == 'images' else 1}-ubyte"
        raise ValueError(f"The folder {folder} holds no IDX file of {what} to {split} with: expected e.g. {name}.")
    if len(files) > 1:
        names = ", ".join(str(file.relative_to(folder)) for file in files)
        raise ValueError(
            f"The folder {folder} holds {len(files)} IDX files of {what} to {split} with ({names}): "
            "give a folder of one set."
        )
    return files[0]


def named(folder: Path, what: str) -> list[Path]:
    """The IDX files of 'images' or 'labels' in a folder and below it, sorted; of a gzipped one and the same unpacked, the latter."""
    files = sorted(file for file in visible(folder, set()) if is_of(file, what))
    return [file for file in files if file.suffix != ".gz" or file.with_suffix("") not in files]


def is_of(file: Path, what: str) -> bool:
    """Whether a file is by its name an IDX file of 'images' or 'labels'."""
    found = NAME.search(file.name)
    return found is not None and found[1] == what


def split_of_idx(path: Path) -> str:
    """'train', 'valid' or 'test': by the words that all data have, or MNIST's t10k."""
    return "test" if path.name.startswith("t10k") else split_of(path)


def array(file: Path, what: str) -> np.ndarray:
    """The bytes of an IDX file: images [N, height, width] or labels [N].

    Raises:
        ValueError: it cannot be read, is not whole, or holds something else.
    """
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"The file {file} cannot be read ({error}): copy or download it again.") from error
    dimensions = 3 if what == "images" else 1
    head = 4 + 4 * dimensions
    if len(content) < head or content[:4] != bytes((0, 0, BYTES, dimensions)):
        raise ValueError(f"The file {file} is not an IDX file of {what} in bytes: copy or download it again.")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", dimensions, 4))
    if len(content) - head != np.prod(shape, dtype=object):
        raise ValueError(
            f"The file {file} has {len(content) - head} bytes of {what}, not {' x '.join(map(str, shape))}: "
            "copy or download it again."
        )
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)
