"""Data by one word: a user's own table or folder, a set on the hub, or a laboratory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from datamodules.base import Data
from datamodules.labs import lattice, textures
from datamodules.labs.copulas import COPULAS, SIZES
from datamodules.labs.density2d import DENSITIES
from datamodules.labs.ising import Ising
from datamodules.labs.shapes import Shapes
from datamodules.labs.vectors import vectors
from datamodules.labs.waves import WAVES
from datamodules.readers import idx
from datamodules.readers.audio import Audio
from datamodules.readers.digits import Digits
from datamodules.readers.files import PICTURES, SPLITS, all_grey, among, check_parquet, classes_in
from datamodules.readers.images import KNOWN, Images
from datamodules.readers.tables import ENDINGS, Vectors

HUB = {name.split("/")[1]: name for name in KNOWN} | {"imagenet64": "benjamin-paine/imagenet-1k-64x64"}
"""Short names of the hub's known sets of images."""


def read(
    data: str | Path,
    *,
    kind: str = "",
    size: int = 0,
    channels: int = 0,
    label: str = "",
    classes: int = 0,
    flip: bool = False,
    rate: int = 0,
    column: str = "",
    batch: int = 1,
    num_workers: int = 0,
) -> Data:
    """The data that a user means by a word, with a held-out part.

    | data | gives |
    |---|---|
    | a file that ends in one of `ENDINGS` | `Vectors`: rows of a table, standardised |
    | a folder of image, IDX, WAV or parquet files | `Images`, each brought to `size`; or `Audio` |
    | a key of `HUB`, or 'owner/name' | `Images`, or `Audio` where waves are wanted, from the Hugging Face hub |
    | a name in `LABORATORIES` | data whose truth is known |

    Args:
        data: as above; a path before a name.
        kind: what the model takes: 'images', 'waves' or 'vectors'; '' for any.
        size: of images their height and width, of waves the samples of an example, of a density its dimensions. 0: 32 in
            a folder, or as its IDX files have it, one second, or as the set or the laboratory has it.
        channels: of the images in a folder: 3, or 1 for grey ones; 0: 1 where all image files are grey or they are IDX files,
            else 3.
        label: column of the labels, or any word where the directories of image files are the labels; '' for none.
        classes: number of labels; 0: those that the directories or the column have.
        flip: whether every image of a folder also counts mirrored.
        rate: samples in a second that every wave must have; 0: those of the first.
        column: of the images or the audio in parquet files; '' finds it where it is called image, img or audio.
        batch: global batch.
        num_workers: processes that read ahead.

    Raises:
        ValueError: there are no such data, they are of another kind, or they cannot be read; one sentence.
    """
    path = Path(data).expanduser()
    if path.is_file():
        check_kind(data, "vectors", kind)
        return Vectors(path, batch=batch)
    if path.is_dir():
        found, column = what_is_in(path, column)
        check_kind(data, found, kind)
        if found == "waves":
            return Audio(path, rate, size or None, batch=batch, column=column, hold_out=True, num_workers=num_workers)
        grey = idx.are_in(path)
        counted = 0 if not label else idx.classes(path) if grey else classes_in(path, label)
        return Images(
            name="",
            data_dir=str(path),
            image=column,
            label=label,
            size=size or (idx.side(path) if grey else 32),
            channels=channels or (1 if grey or all_grey(path) else 3),
            classes=classes or counted,
            resize=True,
            flip=flip,
            hold_out=True,
            batch=batch,
            num_workers=num_workers,
        )
    made = by_name(str(data), kind, size)
    made.batch, made.num_workers = batch, num_workers
    return made


def by_name(name: str, kind: str, size: int) -> Data:
    """The laboratory or the hub's set of a name.

    Raises:
        ValueError: there is none, or it is of another kind.
    """
    for found, laboratories in LABORATORIES.items():
        if name in laboratories:
            check_kind(name, found, kind)
            return laboratories[name](size)
    hub = HUB.get(name, name)
    if hub not in KNOWN and (hub.count("/") != 1 or hub[0] in "./~"):
        raise ValueError(f"There are no data '{name}': give {allowed(kind)}.")
    if kind == "waves" and hub not in KNOWN:
        return Audio(hub, length=size or None)
    check_kind(name, "images", kind)
    return Images(name=hub, size=size or None, resize=True if size else None)


def check_kind(data: str | Path, found: str, kind: str) -> None:
    """Raise ValueError unless the kind that was found is the one that is wanted ('' is any)."""
    if kind and found != kind:
        raise ValueError(f"'{data}' holds {found}, but {kind} are needed: give {allowed(kind)}.")


def allowed(kind: str) -> str:
    """What `read` takes for data of a kind, as the end of a sentence."""
    files = {
        "images": f"a folder of image files, IDX files or parquet files, a set on the hub ({', '.join(HUB)} or owner/name)",
        "waves": "a folder of WAV or parquet files, a set on the hub (owner/name)",
        "vectors": f"a table ({', '.join(ENDINGS)})",
    }
    kinds = [kind] if kind else list(files)
    names = [name for k in kinds for name in LABORATORIES[k]]
    return f"{', '.join(files[k] for k in kinds)}, or one of {', '.join(names)}"


def density(name: str, size: int) -> Data:
    """Vectors of a known density: 2 dimensions, or of a copula 6, unless `size` says otherwise."""
    return vectors(name, size or (min(SIZES.values()) if name in COPULAS else 2))


def texture(name: str, size: int) -> Data:
    """Images of a known density, 8 pixels high and wide unless `size` says otherwise."""
    return textures.images(name, size or 8)


def few_levels(name: str, size: int) -> Data:
    """Images of a few grey levels and known probability, of their own size."""
    return of_one_size(name, size, lattice.images(name))


def of_one_size(name: str, size: int, made: Data) -> Data:
    """The data.

    Raises:
        ValueError: they are of another size.
    """
    if size not in (0, made.shape[-1]):
        raise ValueError(
            f"The images of '{name}' have {made.shape[-1]} pixels to a side, not {size}: leave the size out."
        )
    return made


def wave(name: str, size: int) -> Data:
    """Waves of known probability, of 256 samples unless `size` says otherwise."""
    return WAVES[name](length=size or 256)


LABORATORIES: dict[str, dict[str, Callable[[int], Data]]] = {
    "images": {
        "digits": lambda size: of_one_size("digits", size, Digits()),
        "ising": lambda size: Ising(side=size or 3),
        "shapes": lambda size: Shapes(side=size or 32),
        **{name: partial(texture, name) for name in textures.TEXTURES},
        **{name: partial(few_levels, name) for name in lattice.IMAGES},
    },
    "waves": {name: partial(wave, name) for name in WAVES},
    "vectors": {name: partial(density, name) for name in [*DENSITIES, *COPULAS]},
}
"""Data that need no file, by kind and name: size (0: their own) -> the data."""


def what_is_in(folder: Path, column: str) -> tuple[str, str]:
    """The kind of a folder's files, 'images' or 'waves', and the column of parquet files that holds them.

    Raises:
        ValueError: the folder holds neither, or both.
    """
    images, waves, tables = (
        [f for s in SPLITS for f in among(folder, s, endings)] for endings in (PICTURES, {".wav"}, {".parquet"})
    )
    if images and waves:
        raise ValueError(f"The folder {folder} holds both images and WAV files: give one with either.")
    if images or waves:
        return ("images", column or "image") if images else ("waves", column or "audio")
    if idx.are_in(folder):
        return "images", column or "image"
    if not tables:
        raise ValueError(f"The folder {folder} holds no image, IDX, WAV or parquet files.")
    check_parquet(tables[0])
    return in_table(tables[0], column)


def in_table(file: Path, column: str) -> tuple[str, str]:
    """The kind of a parquet file's column, and its name: waves where it, or its type on the hub, is called audio."""
    from datasets import Audio as Encoded
    from datasets import Features
    from pyarrow.parquet import read_schema

    features = Features.from_arrow_schema(read_schema(file))
    wanted = [column] if column else [name for name in ("image", "img", "audio") if name in features]
    if not wanted or wanted[0] not in features:
        raise ValueError(
            f"The file {file} has no column '{column or 'image'}': name one of its columns, {', '.join(features)}."
        )
    waves = wanted[0] == "audio" or isinstance(features[wanted[0]], Encoded)
    return ("waves" if waves else "images"), wanted[0]
