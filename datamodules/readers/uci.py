"""The five UCI tables on which density estimators are compared, as Papamakarios et al. prepared them.

Source: Papamakarios et al. 2017, Masked Autoregressive Flow for Density Estimation, appendix D; the files are those of
https://zenodo.org/record/1161203 (data.tar.gz, 817 MB, md5 9b9c9b0375315ad270eba4ce80c093ab).
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch

from datamodules.base import Batch, Data, table
from datamodules.readers import pickled_table

ARCHIVE = "data.tar.gz"
WHERE = f"get {ARCHIVE} from https://zenodo.org/record/1161203 and give its folder, unpacked or not"


class Split(NamedTuple):
    """Rows [N, D] to train on, to choose by and held out; the order of the files."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


class UCI(Data):
    """Rows [B, D] of values of about zero mean and unit variance (BSDS300: as they are), as float32.

    The set is read by `setup`, from memory afterwards. GAS is a pickle, of which only a table's values are read: see `pickled_table`.

    Args:
        name: 'power' (D = 6), 'gas' (8), 'hepmass' (21), 'miniboone' (43) or 'bsds300' (63, needs h5py).
        folder: the tarball, its folder, or the folder it was unpacked into; unpacked is faster.
        batch: global batch.

    Raises:
        ValueError: there is no such set; in `setup`: the files are missing or cannot be read, the columns are not D,
            or a value is not finite.
    """

    def __init__(self, name: str = "power", folder: str | Path = "", *, batch: int = 128) -> None:
        super().__init__(batch=batch)
        if name.lower() not in SETS:
            raise ValueError(f"There is no set '{name}'; allowed: {', '.join(SETS)}.")
        self.name, self.folder = name.lower(), folder
        self.columns, self.read = SETS[self.name]
        self.shape = (self.columns,)

    def setup(self, stage: str) -> None:
        if self.source is None:
            self.rows = Split(*(self._checked(part) for part in self.read(Files(self.folder))))
            self.source = table(x=torch.from_numpy(self.rows.train))

    def test(self, n: int | None = None) -> Batch:
        self.setup("test")
        return {"x": torch.from_numpy(self.rows.test[:n])}

    def validation(self, n: int | None = None) -> Batch:
        """The first n rows to choose by (all if None)."""
        self.setup("validate")
        return {"x": torch.from_numpy(self.rows.validation[:n])}

    def _checked(self, rows: np.ndarray) -> np.ndarray:
        if rows.ndim != 2 or rows.shape[1] != self.columns or not len(rows):
            raise ValueError(
                f"The files of {self.name} give rows of shape {rows.shape}, not of {self.columns} columns: {WHERE}."
            )
        if not np.isfinite(rows).all():
            raise ValueError(f"The files of {self.name} hold NaN or infinite numbers, or a column that is constant.")
        return np.ascontiguousarray(rows, dtype=np.float32)


class Files:
    """Members of the archive, from the folder it was unpacked into or from the tarball itself."""

    def __init__(self, given: str | Path) -> None:
        if not str(given):
            raise ValueError(f"The UCI sets are not on this machine: {WHERE}.")
        self.given = Path(given).expanduser()
        if not self.given.exists():
            raise ValueError(f"There is no {self.given}: {WHERE}.")
        self.tarball = self.given if self.given.is_file() else self.given / ARCHIVE

    def open(self, member: str) -> IO[bytes]:
        """A file of the archive, such as 'power/data.npy', to read and to seek in."""
        for found in (self.given / member, self.given / "data" / member):
            if found.is_file():
                return found.open("rb")
        if not self.tarball.is_file():
            raise ValueError(f"{self.given} holds neither {member} nor {ARCHIVE}: {WHERE}.")
        try:
            return self._unpacked(member)
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{self.tarball} is not a whole tarball ({error}): download it again.") from error

    def _unpacked(self, member: str) -> IO[bytes]:
        with tarfile.open(self.tarball) as archive:
            for entry in archive:
                if entry.isfile() and f"/{entry.name}".endswith(f"/{member}"):
                    return io.BytesIO(archive.extractfile(entry).read())  # type: ignore[union-attr]
        raise ValueError(f"{self.tarball} holds no {member}: {WHERE}.")


def array(files: Files, member: str) -> np.ndarray:
    """The array in an .npy file of the archive.

    Raises:
        ValueError: the file cannot be read.
    """
    file = files.open(member)
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{member} of {files.given} cannot be read ({error}).") from error


def tenths(rows: np.ndarray) -> Split:
    """The last tenth is held out, the last tenth of the rest is to choose by."""
    rest, test = before_last(rows, len(rows) // 10)
    return Split(*before_last(rest, len(rest) // 10), test)


def before_last(rows: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows without the last n, and the last n."""
    return rows[: len(rows) - n], rows[len(rows) - n :]


def scaled(split: Split) -> Split:
    """Every part standardised by mean and deviation of the rows that are not held out."""
    seen = np.concatenate(split[:2])
    return Split(*((part - seen.mean(0)) / seen.std(0) for part in split))


def power(files: Files) -> Split:
    """Household power by the minute, shuffled, with noise of the width of a reading's last digit; two columns left out."""
    rows = array(files, "power/data.npy")
    rng = np.random.RandomState(42)
    rng.shuffle(rows)
    n = len(rows)
    voltage, active, meters = 0.01 * rng.rand(n, 1), 0.001 * rng.rand(n, 1), rng.rand(n, 3)
    noise = np.hstack([active, voltage, meters, np.zeros((n, 1))])
    return scaled(tenths(np.delete(rows, (1, 3), axis=1) + noise))


def gas(files: Files) -> Split:
    """Gas sensors over time, in the order of the file; of two sensors that correlate by more than 0.98 the earlier is dropped."""
    file = files.open("gas/ethylene_CO.pickle")
    try:
        names, rows = pickled_table.read(file)
    except ValueError as error:
        raise ValueError(f"gas/ethylene_CO.pickle of {files.given} cannot be read ({error}).") from error
    rows = unlike(rows[:, [name not in ("Meth", "Eth", "Time") for name in names]])
    return tenths((rows - rows.mean(0)) / rows.std(0, ddof=1))


def unlike(rows: np.ndarray) -> np.ndarray:
    """The rows without the first column that correlates with another by more than 0.98, until there is none."""
    while True:
        twins = (np.corrcoef(rows.T) > 0.98).sum(1) > 1
        if not twins.any():
            return rows
        rows = np.delete(rows, twins.argmax(), axis=1)


def hepmass(files: Files) -> Split:
    """Particle collisions of the signal's class, without columns whose smallest value occurs more than five times."""
    train, test = (signal(files, f"hepmass/1000_{part}.csv") for part in ("train", "test"))
    test = test[:, : train.shape[1]]  # one column more than the training rows have
    mean, std = train.mean(0), train.std(0, ddof=1)
    train, test = (train - mean) / std, (test - mean) / std
    keep = (train == train.min(0)).sum(0) <= 5
    return Split(*before_last(train[:, keep], len(train) // 10), test[:, keep])


def signal(files: Files, member: str) -> np.ndarray:
    """Rows of class 1 without the column of the class, which is the first."""
    import pandas as pd

    file = files.open(member)
    try:
        rows = pd.read_csv(file, index_col=False).to_numpy(np.float64)
    except Exception as error:
        raise ValueError(f"{member} of {files.given} is not a table of numbers ({error}).") from error
    return rows[rows[:, 0] == 1, 1:]


def miniboone(files: Files) -> Split:
    """Electron neutrinos against background, in the order of the file."""
    return scaled(tenths(array(files, "miniboone/data.npy")))


def bsds300(files: Files) -> Split:
    """Patches of 8x8 grey pixels less their mean, without the last pixel; split by image."""
    try:
        import h5py
    except ImportError as error:
        raise ValueError("BSDS300 is an HDF5 file: pip install 'reprise[bsds300]' (h5py) to read it.") from error
    file = files.open("BSDS300/BSDS300.hdf5")
    try:
        with h5py.File(file, "r") as found:
            return Split(*(found[part][:] for part in ("train", "validation", "test")))
    except (OSError, KeyError) as error:
        raise ValueError(f"BSDS300/BSDS300.hdf5 of {files.given} cannot be read ({error}).") from error


SETS: dict[str, tuple[int, Callable[[Files], Split]]] = {
    "power": (6, power),
    "gas": (8, gas),
    "hepmass": (21, hepmass),
    "miniboone": (43, miniboone),
    "bsds300": (63, bsds300),
}
