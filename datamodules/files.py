"""Rows of a data set from the Hugging Face hub or from a folder, and one sentence for each that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def open_hub(name: str, split: str, config: str | None = None) -> Any:
    """One split of a data set on the hub, from its cache where it was fetched before."""
    from datasets import load_dataset

    try:
        return load_dataset(name, config, split=split)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"The data set '{name}' cannot be had from the hub ({reason}): check the name and the network, "
            f"or give a folder of parquet files with the same columns."
        ) from error


def open_folder(folder: Path, split: str, what: str = "parquet files") -> Any:
    """The rows of all parquet files of a folder that belong to 'train' or 'test'."""
    from datasets import Dataset

    return Dataset.from_parquet([str(f) for f in parquet(folder, split, what)], keep_in_memory=True)


def parquet(folder: Path, split: str, what: str = "parquet files") -> list[Path]:
    """The parquet files of a folder that belong to 'train' or 'test', each whole and with rows."""
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}: it must hold {what}.")
    files = among(folder, split, {".parquet"})
    if not files:
        raise ValueError(f"The folder {folder} holds no {what} to {split} with: expected e.g. {split}.parquet.")
    for file in files:
        check_parquet(file)
    return files


def among(folder: Path, split: str, endings: set[str]) -> list[Path]:
    """Files of these endings, sorted; those with 'test' in their name or a directory 'test' above them are held out."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in endings and p.is_file())
    return [p for p in files if held_out(p.relative_to(folder)) == (split == "test")]


def held_out(path: Path) -> bool:
    return "test" in path.name or "test" in path.parts[:-1]


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
    if column not in rows.column_names:
        raise ValueError(
            f"There is no column '{column}' in the data of {origin}; its columns are {', '.join(rows.column_names)}."
        )
