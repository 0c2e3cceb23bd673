"""Tables of real numbers in one file: CSV, TSV, parquet or NumPy arrays."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.base import Batch, Data, table

LEAST = 10
"""Rows that a table must have, so that at least one is held out."""


class Vectors(Data):
    """Rows [B, D] float32 of a table, each column standardised by the training part's mean and deviation.

    A tenth of the rows, by a fixed permutation, is held out. Of a model of these rows, `log_prob - std.log().sum()` is the
    log density of the rows as they stand in the file.

    Args:
        path: a file that ends in one of `ENDINGS`. A CSV or TSV file may begin with a line of names.
        batch: global batch.

    Attributes:
        names: of the columns, as the file gives them, or '0', '1', ...
        mean, std: [D] float64, of the training part.

    Raises:
        ValueError: the file is missing, is no table, has fewer than `LEAST` rows, or a column that is not numeric, not
            finite or constant.
    """

    def __init__(self, path: str | Path, *, batch: int = 1) -> None:
        super().__init__(batch=batch)
        self.names, rows = read_table(Path(path).expanduser())
        order = np.random.default_rng(0).permutation(len(rows))
        held_out, train = np.split(rows[order], [len(rows) // 10])
        check_varied(train, self.names, path)
        self.mean, self.std = torch.from_numpy(train.mean(0)), torch.from_numpy(train.std(0))
        self.shape = (len(self.names),)
        self.source = table(x=self._standardised(train))
        self.held_out = self._standardised(held_out)

    def test(self, n: int | None = None) -> Batch:
        return {"x": self.held_out[:n]}

    def _standardised(self, rows: np.ndarray) -> torch.Tensor:
        return ((torch.from_numpy(rows) - self.mean) / self.std).float()


def read_table(path: Path) -> tuple[list[str], np.ndarray]:
    """Names [D] and values [N, D] float64 of a table's columns.

    Raises:
        ValueError: as `Vectors`.
    """
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    if path.suffix.lower() not in READERS:
        raise ValueError(f"The file {path} is no table: its name must end in {', '.join(ENDINGS)}.")
    try:
        frame = READERS[path.suffix.lower()](path)
    except Exception as error:  # pandas, pyarrow and NumPy each have their own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"The file {path} cannot be read as a table ({reason}).") from error
    if len(frame) < LEAST:
        raise ValueError(f"The table {path} has {len(frame)} rows: at least {LEAST} are needed.")
    if not len(frame.columns):
        raise ValueError(f"The table {path} has no columns.")
    check_names([str(name) for name in frame.columns], path)
    values = [numeric(frame.iloc[:, i], str(name), path) for i, name in enumerate(frame.columns)]
    return [str(name) for name in frame.columns], np.stack(values, 1)


def read_text(path: Path) -> Any:
    """The frame of a CSV or TSV file; its first line holds names unless all of it is numeric."""
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline()
    except UnicodeDecodeError:
        raise ValueError("it is not text in UTF-8: save it as such") from None
    separator = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    cells = [cell.strip().strip('"') for cell in first.split(separator)]
    named = not all(map(is_number, cells))
    frame = pd.read_csv(path, sep=separator, header=0 if named else None, skipinitialspace=True, encoding="utf-8-sig")
    if not isinstance(frame.index, pd.RangeIndex):  # pandas would take the first cells for the rows' names
        raise ValueError("its rows have more cells than its first line")
    if (
        len(frame.columns) == 1
        and not pd.api.types.is_numeric_dtype(frame.iloc[:, 0])
        and re.search(r"[| ]", first.strip())
    ):
        raise ValueError(f"its cells are separated by neither comma, semicolon nor tab: {first.strip()[:60]!r}")
    return frame.set_axis(cells, axis=1) if named and len(cells) == len(frame.columns) else frame


def read_parquet(path: Path) -> Any:
    """The frame of a parquet file."""
    import pandas as pd

    return pd.read_parquet(path)


def read_numpy(path: Path) -> Any:
    """The frame of an array [N, D] in an .npy file, or in an .npz file that holds no other, or whose name is 'x'."""
    import pandas as pd

    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.lib.npyio.NpzFile):
        if len(found.files) != 1 and "x" not in found.files:
            raise ValueError(f"it holds the arrays {', '.join(found.files)}: name one of them x")
        found = found[found.files[0] if len(found.files) == 1 else "x"]
    if found.ndim != 2:
        raise ValueError(f"its array has the shape {found.shape}: rows and columns are needed")
    return pd.DataFrame(found)


def check_names(names: list[str], path: Path) -> None:
    """Raise ValueError where a column has no name, as row numbers that were saved with a table, or two have the same."""
    for i, name in enumerate(names):
        if not name or name.startswith("Unnamed: "):
            raise ValueError(
                f"Column {i + 1} of {path} has no name: name it, or leave it out where it numbers the rows."
            )
        if name in names[:i]:
            raise ValueError(f"Two columns of {path} are called '{name}': rename one of them, or leave it out.")


READERS: dict[str, Callable[[Path], Any]] = {
    ".csv": read_text,
    ".tsv": read_text,
    ".parquet": read_parquet,
    ".npy": read_numpy,
    ".npz": read_numpy,
}
ENDINGS = tuple(READERS)


def is_number(cell: str) -> bool:
    """Whether float() reads the cell."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def numeric(column: Any, name: str, path: Path) -> np.ndarray:
    """The values [N] float64 of a frame's column.

    Raises:
        ValueError: a cell is not numeric, empty, NaN or infinite.
    """
    import pandas as pd

    if column.dtype.kind in "mMc":
        kind = "complex numbers" if column.dtype.kind == "c" else "times"
        raise ValueError(f"The column '{name}' of {path} holds {kind}: make real numbers of them, or leave it out.")
    values = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    odd = ~np.isfinite(values)
    if not odd.any():
        return values
    row = int(odd.argmax())
    cell = column.iloc[row]
    if isinstance(cell, str):
        if is_number(cell.replace(",", ".", 1)):
            raise ValueError(
                f"The column '{name}' of {path} has decimals with a comma ({cell!r}): write them with a point."
            )
        raise ValueError(
            f"The column '{name}' of {path} is not numeric: row {row} holds {cell!r}. Leave the column out, or encode it."
        )
    raise ValueError(f"Row {row} of the column '{name}' of {path} is empty or not finite: fill in or remove such rows.")


def check_varied(rows: np.ndarray, names: list[str], path: str | Path) -> None:
    """Raise ValueError where a column of rows [N, D] is constant, and so has no scale, or too large to have a deviation."""
    same = (rows == rows[:1]).all(0)
    if same.any():
        raise ValueError(f"The column '{names[int(same.argmax())]}' of {path} is constant: leave it out.")
    with np.errstate(over="ignore", invalid="ignore"):
        scale = rows.std(0)
    odd = ~np.isfinite(scale) | (scale == 0)
    if odd.any():
        raise ValueError(
            f"The values of the column '{names[int(odd.argmax())]}' of {path} are too large or too close: rescale them."
        )
