"""Waves from a folder of WAV files or from the Hugging Face hub, in 256 mu-law levels.

Source: van den Oord et al. 2016, WaveNet, section 2.2 (mu-law); ITU-T G.711 is its table for telephones.
Differs: the levels are evenly spaced on the companded scale, both ends among them, so that 0 lies between two.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.base import Batch, Data, Finite
from datamodules.readers.files import among, check_column, open_hub, open_parquet
from datamodules.readers.streaming import Row, Streamed, each, shuffled

FULL_SCALE = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}


def encode(x: Tensor, levels: int = 256) -> Tensor:
    """The mu-law level, long in 0..levels-1, that is nearest to each amplitude in [-1, 1]; beyond, the last level."""
    mu = levels - 1
    companded = x.sign() * torch.log1p(mu * x.abs().clamp(max=1)) / math.log1p(mu)
    return ((companded + 1) / 2 * mu).round().long()


def decode(code: Tensor, levels: int = 256) -> Tensor:
    """The amplitude of each level: float32 in [-1, 1], with encode(decode(k)) = k."""
    mu = levels - 1
    companded = 2 * code.double() / mu - 1
    return (companded.sign() * torch.expm1(companded.abs() * math.log1p(mu)) / mu).float()


class Audio(Data):
    """Windows of waves: 'x' [B, length] float32, the amplitudes of the mu-law levels 'code' [B, length], long.

    Every wave is cut into windows of `length` samples that follow each other; the rest at its end is not used.
    Channels are averaged. In a folder, files that are of another split by their directory or name, such as test/ or val/,
    are not trained on (`files.split_of`); hidden files and folders are no part of the set.

    Args:
        source: a folder of WAV files, or of parquet files with a column of audio, or the name of a set on the hub.
        rate: samples in a second that every wave must have; 0: as many as the first has, which is then read at once.
        length: samples of an example; None: as many as a second has.
        batch: global batch.
        levels: of mu-law.
        column: that holds the audio, on the hub and in parquet files.
        config: part of the set on the hub.
        splits: of the hub to train on and to hold out.
        streaming: whether to read the hub or parquet files from beginning to end instead of by index; nothing is stored.
        windows: in an epoch of a stream; 0 counts them, for which everything is read once.
        buffer: windows among which a stream is shuffled.
        hold_out: of a folder of WAV files all of which are of 'train', hold out every tenth.
        num_workers: processes that read ahead.

    Raises:
        ValueError: in `setup`: there is no such folder or set, or it is empty; a file is corrupt (it is named) or of
            another rate; no wave is as long as a window. In a batch: amplitudes are NaN or beyond [-1, 1].
    """

    def __init__(
        self,
        source: str | Path = "openslr/librispeech_asr",
        rate: int = 16_000,
        length: int | None = 16_000,
        *,
        batch: int = 16,
        levels: int = 256,
        column: str = "audio",
        config: str = "clean",
        splits: tuple[str, str] = ("train.100", "test"),
        streaming: bool = False,
        windows: int = 0,
        buffer: int = 1000,
        hold_out: bool = False,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch=batch, num_workers=num_workers)
        if (length is not None and length < 1) or levels < 2:
            raise ValueError(f"length is {length} and levels {levels}: at least 1 and 2 are needed.")
        self.from_where, self.levels, self.hold_out = source, levels, hold_out
        self.column, self.config, self.splits = column, config, dict(zip(("train", "test"), splits, strict=True))
        self.streaming, self.windows, self.buffer = streaming, windows, buffer
        self.rate = rate or read(self._open("train")[0])[0]
        self.length = self.rate if length is None else length
        self.shape = (self.length,)

    def setup(self, stage: str) -> None:
        if self.source is not None:
            return
        waves = self._open("train")
        if self.streaming:
            size = self.windows or self._some(sum(1 for _ in waves.cut_all()))
            self._take_stream(list(islice(waves.cut_all(), 1)), 0)
            self.source = Streamed(size, waves.shuffled, self._take_stream)
        else:
            size, take = self._by_index(waves)
            take(np.zeros(1, dtype=int))  # raise what is wrong with the waves here, not in a process that loads ahead
            self.source = Finite(size, take)

    def test(self, n: int | None = None) -> Batch:
        waves = self._open("test")
        if self.streaming:
            return self._take_stream(list(islice(waves.cut_all(), n)), 0)
        size, take = self._by_index(waves)
        return take(np.arange(min(n or size, size)))

    def _by_index(self, waves: Sequence[Wave]) -> tuple[int, Callable[[np.ndarray], Batch]]:
        count = np.array([frames(wave, self.rate) // self.length for wave in waves])
        take = partial(take_windows, waves, np.cumsum(count), self.length, self.levels)
        return self._some(int(count.sum())), take

    def _some(self, windows: int) -> int:
        if not windows:
            raise ValueError(f"No wave of {self.from_where} has {self.length} samples: take a smaller length.")
        return windows

    def _take_stream(self, parts: list[Row], epoch: int) -> Batch:
        return in_levels([amplitudes(p["wave"], p["first"], self.length) for p in parts], self.levels)

    def _open(self, split: str) -> Any:
        folder = Path(self.from_where).expanduser()
        if folder.is_dir() and (files := among(folder, split, {".wav"}, hold_out=self.hold_out)):
            if self.streaming:
                raise ValueError(f"{folder} holds WAV files, which are read by index: set streaming=False.")
            return [Wave(str(file)) for file in files]
        if folder.is_dir():
            rows = open_parquet(folder, split, "WAV or parquet files", streaming=self.streaming)
        elif str(self.from_where).count("/") == 1 and str(self.from_where)[0] not in "./~":
            rows = open_hub(str(self.from_where), self.splits[split], self.config, streaming=self.streaming)
        else:
            raise ValueError(f"There is no folder {folder}: source is one with WAV files, or 'owner/name' of the hub.")
        rows = encoded(rows, self.column, str(self.from_where))
        if self.streaming:
            return Stream(rows, self.column, str(self.from_where), self.rate, self.length, self.buffer)
        return Rows(rows, self.column, str(self.from_where))


@dataclass(frozen=True)
class Wave:
    """A wave that is read when it is needed."""

    name: str
    content: bytes | None = None
    """Of the file; None: `name` is its path."""

    def open(self) -> io.BytesIO | str:
        """What a reader of sound files opens: a path, or the content as a file."""
        return self.name if self.content is None else io.BytesIO(self.content)


def encoded(rows: Any, column: str, origin: str) -> Any:
    """The column of audio alone, as files that are not decoded."""
    from datasets import Audio as Encoded

    check_column(rows, column, origin)
    try:
        return rows.select_columns([column]).cast_column(column, Encoded(decode=False))
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"The column '{column}' does not hold audio but {rows.features[column]}.") from error


class Rows(Sequence[Wave]):
    """The waves in a column of audio, read row by row."""

    def __init__(self, rows: Any, column: str, origin: str) -> None:
        self.rows, self.column, self.origin = rows, column, origin

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Wave:
        if index >= len(self):
            raise IndexError(index)
        return as_wave(self.rows[int(index)][self.column], f"row {index} of {self.origin}")


def as_wave(found: dict[str, Any] | None, name: str) -> Wave:
    """The wave of a cell in a column of audio, named by its path or by `name`.

    Raises:
        ValueError: the cell is empty.
    """
    if found is None or (not found["bytes"] and not found["path"]):
        raise ValueError(f"There is no audio in {name}: remove the row, or fill it in.")
    return Wave(found["path"]) if found["bytes"] is None else Wave(name, found["bytes"])


@dataclass(frozen=True)
class Stream:
    """Windows of the waves in a column of audio, from beginning to end."""

    rows: Any
    column: str
    origin: str
    rate: int
    length: int
    buffer: int

    def cut(self, row: Row) -> Iterator[Row]:
        """Where each window of a row begins."""
        cell = row[self.column]
        wave = as_wave(cell, (cell and cell["path"]) or f"a row of {self.origin}")
        count = frames(wave, self.rate) // self.length
        return ({"wave": wave, "first": k * self.length} for k in range(count))

    def cut_all(self) -> Iterator[Row]:
        """The windows of all rows, in order."""
        return (part for row in each(self.rows) for part in self.cut(row))

    def shuffled(self, seed: int, epoch: int) -> Iterator[Row]:
        """The windows of all rows in an order that is a function of (seed, epoch)."""
        return shuffled(self.rows, self.buffer, seed, epoch, self.cut)


def take_windows(waves: Sequence[Wave], ends: np.ndarray, length: int, levels: int, index: np.ndarray) -> Batch:
    """Windows by index [B], where wave w holds those before ends[w] and not before ends[w - 1]."""
    return in_levels([window(waves, ends, length, i) for i in index.tolist()], levels)


def in_levels(waves: list[Tensor], levels: int) -> Batch:
    """The batch of waves [length], rounded to mu-law levels."""
    code = encode(torch.stack(waves), levels)
    return {"x": decode(code, levels), "code": code}


def window(waves: Sequence[Wave], ends: np.ndarray, length: int, index: int) -> Tensor:
    """Amplitudes [length] of one window."""
    which = int(np.searchsorted(ends, index, side="right"))
    first = (index - (ends[which - 1] if which else 0)) * length
    return amplitudes(waves[which], int(first), length)


def frames(wave: Wave, rate: int) -> int:
    """Samples of each channel.

    Raises:
        ValueError: the wave cannot be read, or has another rate.
    """
    got, samples = read(wave)
    if got != rate:
        raise ValueError(f"{wave.name} has {got} samples in a second, not {rate}: give its rate, or resample it.")
    return len(samples)


def amplitudes(wave: Wave, first: int, length: int) -> Tensor:
    """Samples first..first+length-1, [length] float32, the mean over channels; integers scaled to [-1, 1).

    Raises:
        ValueError: the wave ends before, or is not all within -1 and 1.
    """
    samples = np.asarray(read(wave)[1][first : first + length])
    if len(samples) < length:
        raise ValueError(f"{wave.name} ends early: copy or download it again.")
    if samples.dtype == np.uint8:
        scaled = (samples - 128.0) / 128
    else:
        scaled = samples / FULL_SCALE.get(samples.dtype, 1.0)
    x = torch.from_numpy(scaled.reshape(length, -1).mean(1).astype(np.float32))
    if not x.isfinite().all() or x.abs().max() > 1:
        raise ValueError(f"The amplitudes of {wave.name} are not all within -1 and 1: scale them.")
    return x


def read(wave: Wave) -> tuple[int, Any]:
    """Rate, and the samples [N] or [N, channels] as they are stored, loaded when they are sliced."""
    try:
        return wav(wave) if riff(wave) else other(wave)
    except ImportError as error:
        raise ValueError(
            f"{wave.name} is not a WAV file: pip install 'reprise[audio]' (soundfile) to read others."
        ) from error
    except (
        ValueError,
        OSError,
        EOFError,
        RuntimeError,
        LookupError,
        ArithmeticError,
        NameError,
        struct.error,
    ) as error:
        raise ValueError(f"{wave.name} cannot be read ({error}): the file is corrupt or of an unknown kind.") from error


def riff(wave: Wave) -> bool:
    """Whether it is a WAV file by its first letters; a file called .wav is read as one, whatever it holds."""
    if wave.content is None:
        return wave.name.lower().endswith(".wav")
    return wave.content[:4] in (b"RIFF", b"RIFX", b"RF64")


def wav(wave: Wave) -> tuple[int, np.ndarray]:
    """Rate and samples [N] or [N, channels] of a WAV file, mapped into memory where that is possible."""
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)
        if wave.content is not None:
            return wavfile.read(wave.open())
        try:
            return wavfile.read(wave.open(), mmap=True)
        except ValueError as error:
            if "mmap" not in str(error) or "byte" not in str(error):
                raise
            return wavfile.read(wave.open())  # 24 bits to a sample cannot be mapped


def other(wave: Wave) -> tuple[int, Any]:
    """Rate and samples of a file that soundfile reads, decoded when they are sliced."""
    import soundfile

    return soundfile.info(wave.open()).samplerate, Sound(wave)


@dataclass(frozen=True)
class Sound:
    """Samples of a compressed file: its length without decoding, a slice by decoding that part."""

    wave: Wave

    def __len__(self) -> int:
        import soundfile

        return soundfile.info(self.wave.open()).frames

    def __getitem__(self, part: slice) -> np.ndarray:
        import soundfile

        with soundfile.SoundFile(self.wave.open()) as file:
            file.seek(part.start)
            return file.read(part.stop - part.start, dtype="float32")
