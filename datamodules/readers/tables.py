"""Tables of real numbers in one file: CSV, TSV, parquet or NumPy arrays."""

from __future__ import annotations

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
    values = [numeric(frame.iloc[:, i], str(name), path) for i, name in enumerate(frame.columns)]
    return [str(name) for name in frame.columns], np.stack(values, 1)


def read_text(path: Path) -> Any:
    """The frame of a CSV or TSV file; its first line holds names unless all of it is numeric."""
    import pandas as pd

    with path.open(encoding="utf-8-sig") as file:
        first = file.readline()
    separator = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    named = not all(is_number(cell.strip().strip('"')) for cell in first.split(separator))
    return pd.read_csv(path, sep=separator, header=0 if named else None, skipinitialspace=True, encoding="utf-8-sig")


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

    values = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    odd = ~np.isfinite(values)
    if not odd.any():
        return values
    row = int(odd.argmax())
    cell = column.iloc[row]
    if isinstance(cell, str):
        raise ValueError(
            f"The column '{name}' of {path} is not numeric: row {row} holds {cell!r}. Leave the column out, or encode it."
        )
    raise ValueError(f"Row {row} of the column '{name}' of {path} is empty or not finite: fill in or remove such rows.")


def check_varied(rows: np.ndarray, names: list[str], path: str | Path) -> None:
    """Raise ValueError where a column of rows [N, D] is constant: it has no scale."""
    same = (rows == rows[:1]).all(0)
    if same.any():
        raise ValueError(f"The column '{names[int(same.argmax())]}' of {path} is constant: leave it out.")
