"""Rows of a data set from the Hugging Face hub or from a folder, and one sentence for each that cannot be used."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SPLITS = ("train", "validation", "test")
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
WORDS = {
    "train": ("train", "training"),
    "valid": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Names of the splits in paths; those that Hugging Face's `datasets` knows."""
SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}
LEFTOVERS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found"}
"""Folders that archives and systems leave behind; what they hold is not of the set."""
TENTH = 10
"""One of so many files is held out where their names hold out none."""
IN_MEMORY = 2**30
"""Bytes of parquet files up to which they are read into the memory of every worker."""


def open_hub(name: str, split: str, config: str | None = None, *, streaming: bool = False) -> Any:
    """One split of a data set on the hub, from its cache where it was fetched before; or read as it comes."""
    from datasets import load_dataset

    try:
        return load_dataset(name, config, split=split, streaming=streaming)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"The data set '{name}' cannot be had from the hub ({reason}): check the name and the network, "
            f"or give a folder of parquet files with the same columns."
        ) from error


def open_parquet(folder: Path, split: str, what: str = "parquet files", *, streaming: bool = False) -> Any:
    """The rows of all parquet files of a folder that belong to a split; large ones from a copy in the hub's cache."""
    from datasets import Dataset, load_dataset

    files = parquet(folder, split, what)
    names = [str(f) for f in files]
    if streaming:
        return load_dataset("parquet", data_files=names, split="train", streaming=True)
    if sum(f.stat().st_size for f in files) > IN_MEMORY:
        return Dataset.from_parquet(names)
    return Dataset(in_one(files))


def in_one(files: list[Path]) -> Any:
    """The rows of several parquet files in memory."""
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.concat_tables([pyarrow.parquet.ParquetFile(f).read() for f in files])
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"The parquet files of {files[0].parent} cannot be read as one table ({reason}).") from error


def open_images(
    folder: Path, split: str, image: str, label: str, classes: int | None = None, *, hold_out: bool = False
) -> Any:
    """The image files of a folder that belong to a split, as rows of the columns named; None where it holds no images.

    The label is the index of the file's directory among the sorted names of all. `hold_out` as in `among`.

    Raises:
        ValueError: no image is of the split; or there are labels, and the directories are not `classes` in number.
    """
    from datasets import Dataset

    files, everywhere = among(folder, split, PICTURES, hold_out=hold_out), every(folder, PICTURES)
    if everywhere and not files:
        what = "to train on" if split == "train" else "that is held out: put some into a folder test/ or val/ in it"
        raise ValueError(f"The folder {folder} holds no image {what}.")
    if not files:
        return None
    rows: dict[str, list[Any]] = {image: [{"bytes": None, "path": str(f)} for f in files]}
    if label:
        names = sorted({kind(f, folder) for f in everywhere})
        if classes is not None and classes != len(names):
            found = ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")
            raise ValueError(f"The images of {folder} have {len(names)} classes by directory ({found}), not {classes}.")
        rows[label] = [names.index(kind(f, folder)) for f in files]
    return Dataset.from_dict(rows)


def kind(file: Path, folder: Path) -> str:
    """The class of an image file: the name of its directory.

    Raises:
        ValueError: the directory is the folder itself or that of a split.
    """
    if not in_class(file, folder):
        raise ValueError(f"The image {file} lies in no directory of a class, from which its label would be read.")
    return file.parent.name


def in_class(file: Path, folder: Path) -> bool:
    """Whether an image file lies in a directory that is neither the folder itself nor that of a split."""
    inside = file.relative_to(folder).parent
    return inside != Path() and inside.name.lower() not in SPLIT_OF


def have_classes(folder: Path) -> bool:
    """Whether every image file of a folder lies in a directory of a class."""
    return all(in_class(file, folder) for file in every(folder, PICTURES))


def classes_in(folder: Path, label: str) -> int:
    """The number of classes of a folder's images: its directories of classes, or the largest label of parquet files and 1.

    Raises:
        ValueError: an image file lies in no directory of a class, or `label` is no column of whole numbers.
    """
    if files := every(folder, PICTURES):
        return len({kind(file, folder) for file in files})
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    largest = 0
    for file in every(folder, {".parquet"}):
        check_parquet(file)
        schema = pyarrow.parquet.read_schema(file)
        if label not in schema.names or not pyarrow.types.is_integer(schema.field(label).type):
            raise ValueError(
                f"The file {file} has no column '{label}' of whole numbers, from which labels would be read."
            )
        found = pyarrow.compute.max(pyarrow.parquet.read_table(file, columns=[label])[label]).as_py()
        largest = max(largest, found or 0)
    return largest + 1


def all_grey(folder: Path) -> bool:
    """Whether a folder holds image files, and all of them are grey; only their headers are read."""
    from PIL import Image, UnidentifiedImageError

    files = every(folder, PICTURES)
    try:
        return bool(files) and all(Image.open(file).mode in ("1", "L", "LA") for file in files)
    except (UnidentifiedImageError, OSError):
        return False  # the reader names the file that is corrupt


def count(folder: Path, split: str, *, hold_out: bool = False) -> int:
    """Rows of the parquet files, or image files, that belong to a split."""
    import pyarrow.parquet

    images = len(among(folder, split, PICTURES, hold_out=hold_out))
    return images or sum(pyarrow.parquet.read_metadata(f).num_rows for f in parquet(folder, split))


def parquet(folder: Path, split: str, what: str = "parquet files") -> list[Path]:
    """The parquet files of a folder that belong to a split, each whole and with rows."""
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}: it must hold {what}.")
    files = among(folder, split, {".parquet"})
    if not files:
        raise ValueError(f"The folder {folder} holds no {what} to {split} with: expected e.g. {split}.parquet.")
    for file in files:
        check_parquet(file)
    return files


def among(folder: Path, split: str, endings: set[str], *, hold_out: bool = False) -> list[Path]:
    """Files of these endings that belong to a split, sorted; where none is of 'test', those of 'validation' are held out in its place.

    Args:
        hold_out: where every file is of 'train', let every tenth of them be of 'test'.
    """
    files = every(folder, endings)
    splits = [split_of(p.relative_to(folder)) for p in files]
    if hold_out and set(splits) == {"train"}:
        splits[TENTH - 1 :: TENTH] = ["test"] * (len(files) // TENTH)
    wanted = split.removesuffix("ation")
    if wanted == "test" and "test" not in splits:
        wanted = "valid"
    return [p for p, s in zip(files, splits, strict=True) if s == wanted]


def holds(folder: Path, split: str, endings: set[str]) -> bool:
    """Whether some files of these endings are of a split by their path: 'train', 'valid' or 'test'."""
    return any(split_of(p.relative_to(folder)) == split for p in every(folder, endings))


def every(folder: Path, endings: set[str]) -> list[Path]:
    """Files of these endings in a folder and in those below it, sorted; links are followed, what is hidden is left out.

    Raises:
        ValueError: a link of such an ending leads nowhere.
    """
    found = sorted(p for p in visible(folder, set()) if p.suffix.lower() in endings)
    for path in found:
        if path.is_symlink() and not path.exists():
            raise ValueError(f"The link {path} leads to no file: remove it, or bring back what it leads to.")
    return found


def visible(folder: Path, seen: set[str]) -> Iterator[Path]:
    """Files below a folder without hidden ones, whose names begin with a dot, and LEFTOVERS; each folder in `seen` is read once."""
    if (real := os.path.realpath(folder)) in seen or not os.path.isdir(folder):
        return
    seen.add(real)
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.name.startswith(".") or entry.name in LEFTOVERS:
            continue
        if entry.is_dir():
            yield from visible(Path(entry.path), seen)
        else:
            yield Path(entry.path)


def split_of(path: Path) -> str:
    """'train', 'valid' or 'test', by the words of `WORDS`; 'train' where there are none.

    The outermost directory that is called by such a word alone decides, or by it and a number, as val2017; else the last
    such word that stands by itself in a directory's or the file's name.
    """
    for name in path.parts[:-1]:
        if split := SPLIT_OF.get(name.lower().rstrip("0123456789")):
            return split
    words = re.findall(r"(?<![a-z])[a-z]+(?![a-z])", path.as_posix().lower())
    return next((SPLIT_OF[word] for word in reversed(words) if word in SPLIT_OF), "train")


def check_parquet(file: Path) -> None:
    """Raise ValueError unless the file is whole: parquet ends with its table of contents."""
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_metadata(file).num_rows
    except Exception as error:
        raise ValueError(f"The file {file} is not a whole parquet file: copy or download it again.") from error
    if not rows:
        raise ValueError(f"The file {file} has no rows: remove it, or download it again.")


def check_column(rows: Any, column: str, origin: str) -> None:
    """Raise ValueError unless the rows have the column."""
    names = rows.column_names or list(next(iter(rows)))  # a stream may not know them before it is read
    if column not in names:
        raise ValueError(f"There is no column '{column}' in the data of {origin}; its columns are {', '.join(names)}.")
