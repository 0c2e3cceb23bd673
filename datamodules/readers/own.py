"""A user's own folder, whatever it holds."""

from __future__ import annotations

from pathlib import Path

from datamodules.base import Data
from datamodules.readers.audio import Audio
from datamodules.readers.files import PICTURES, among, check_parquet
from datamodules.readers.images import Images

SPLITS = ("train", "validation", "test")


def own(
    folder: str | Path,
    *,
    batch: int = 64,
    size: int = 32,
    channels: int = 3,
    label: str = "",
    classes: int = 0,
    flip: bool = False,
    rate: int = 16_000,
    length: int = 16_000,
    column: str = "",
    streaming: bool = False,
    num_workers: int = 0,
) -> Data:
    """`Images` of a folder of image files, `Audio` of a folder of WAV files, either of a folder of parquet files.

    Args:
        folder: where the files are; those with 'test' or 'valid' in their name or in a directory are not trained on.
        batch: global batch.
        size: to which the centre square of each image is brought.
        channels: of images: 3, or 1 for grey ones.
        label: column of the labels, or any word where the directories of image files are the labels; '' for none.
        classes: number of labels.
        flip: whether every image also counts mirrored.
        rate: samples in a second that every wave must have.
        length: samples of an example of audio.
        column: of the images or the audio in parquet files; '' finds it where it is called image, img or audio.
        streaming: whether to read images from beginning to end instead of by index.
        num_workers: processes that read ahead.

    Raises:
        ValueError: there is no such folder, or it holds none of these files, or both images and waves.
    """
    kind, found = what_is_in(Path(folder).expanduser(), column)
    if kind == "audio":
        return Audio(folder, rate, length, batch=batch, column=found, num_workers=num_workers)
    return Images(
        batch=batch,
        name="",
        data_dir=str(folder),
        image=found,
        label=label,
        size=size,
        channels=channels,
        classes=classes,
        resize=True,
        flip=flip,
        streaming=streaming,
        num_workers=num_workers,
    )


def what_is_in(folder: Path, column: str) -> tuple[str, str]:
    """'images' or 'audio', and the column that holds it."""
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}: give one with image, WAV or parquet files.")
    images, waves, tables = (
        [f for s in SPLITS for f in among(folder, s, endings)] for endings in (PICTURES, {".wav"}, {".parquet"})
    )
    if images and waves:
        raise ValueError(f"The folder {folder} holds both images and WAV files: give one with either.")
    if images or waves:
        return ("images", column or "image") if images else ("audio", column or "audio")
    if not tables:
        raise ValueError(f"The folder {folder} holds no image, WAV or parquet files.")
    check_parquet(tables[0])
    return in_table(tables[0], column)


def in_table(file: Path, column: str) -> tuple[str, str]:
    """What a column of a parquet file holds: audio where it, or its type on the hub, is called so."""
    from datasets import Audio as Encoded
    from datasets import Features
    from pyarrow.parquet import read_schema

    features = Features.from_arrow_schema(read_schema(file))
    wanted = [column] if column else [name for name in ("image", "img", "audio") if name in features]
    if not wanted or wanted[0] not in features:
        raise ValueError(
            f"The file {file} has no column '{column or 'image'}': name one of its columns, {', '.join(features)}."
        )
    audio = wanted[0] == "audio" or isinstance(features[wanted[0]], Encoded)
    return ("audio" if audio else "images"), wanted[0]
