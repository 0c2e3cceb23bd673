"""Rows of a data set from the Hugging Face hub or from a folder, and one sentence for each that cannot be used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

SPLITS = ("train", "validation", "test")
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
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


def open_images(folder: Path, split: str, image: str, label: str, *, hold_out: bool = False) -> Any:
    """The image files of a folder that belong to a split, as rows of the columns named; None where there are none.

    The label is the index of the file's directory among the sorted names of all. `hold_out` as in `among`.
    """
    from datasets import Dataset

    files = among(folder, split, PICTURES, hold_out=hold_out)
    if not files:
        return None
    rows: dict[str, list[Any]] = {image: [{"bytes": None, "path": str(f)} for f in files]}
    if label:
        everywhere = [f for f in folder.rglob("*") if f.suffix.lower() in PICTURES]
        names = sorted({f.parent.name for f in everywhere})
        rows[label] = [names.index(f.parent.name) for f in files]
    return Dataset.from_dict(rows)


def all_grey(folder: Path) -> bool:
    """Whether a folder holds image files, and all of them are grey; only their headers are read."""
    from PIL import Image, UnidentifiedImageError

    files = [p for p in folder.rglob("*") if p.suffix.lower() in PICTURES and p.is_file()]
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
    """Files of these endings that belong to a split, sorted.

    Args:
        hold_out: where no file has 'test' or 'valid' in its name, let every tenth of them be the test split.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in endings and p.is_file())
    splits = [split_of(p.relative_to(folder)) for p in files]
    if hold_out and set(splits) == {"train"}:
        splits[TENTH - 1 :: TENTH] = ["test"] * (len(files) // TENTH)
    return [p for p, s in zip(files, splits, strict=True) if s == split.removesuffix("ation")]


def split_of(path: Path) -> str:
    """'test' or 'valid' where the file's name or a directory has the word in it by itself; else 'train'."""
    words = re.findall(r"(?<![a-z])(?:test|valid)(?=ation(?![a-z])|(?![a-z]))", path.as_posix().lower())
    return words[-1] if words else "train"


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
