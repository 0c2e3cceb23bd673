"""Captions of the image files of a folder: CSV, JSON lines, or COCO's JSON, beside the images."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from datamodules.readers.files import PICTURES, every

FILES, TEXTS = ("file_name", "file", "filename", "image"), ("caption", "text", "prompt")
"""Names of the columns of image files and of captions; the first are those of Hugging Face's folders of images."""
NAMED = ("captions", "metadata")
"""How the names of files of captions begin."""
SHOWN = 3
"""Images without a caption that a refusal names."""
Line = tuple[str, str]
"""The image file as it is named, and its caption."""


def of_files(folder: Path, images: Iterable[Path]) -> list[list[str]]:
    """The captions of each image file, at least one each: lines of `captions.csv`, `captions.jsonl` or COCO's `captions_*.json`.

    A file of captions names an image by its path from where the file of captions is, or from the folder, or by its name where only one
    image is called so. Several lines about one image are several captions.

    Raises:
        ValueError: there is no file of captions, it cannot be read, or images have none (which, and how many).
    """
    sources = [f for f in every(folder, {".csv", ".jsonl", ".json"}) if f.stem.lower().startswith(NAMED)]
    if not sources:
        raise ValueError(
            f"The folder {folder} holds no captions: put a captions.csv with the columns file_name and caption in it, "
            "or a captions.jsonl, or give parquet files with a column of captions."
        )
    find, known = places(folder), dict[str, list[str]]()
    for source in sources:
        for name, text in read(source):
            if image := find(source.parent, name):
                known.setdefault(image, []).append(text)
    wanted = [within(image, folder) for image in images]
    if without := [image for image in wanted if image not in known]:
        raise ValueError(missing(f"images of {folder}", without, len(wanted), f" in {sources[0].name}"))
    return [known[image] for image in wanted]


def places(folder: Path) -> Callable[[Path, str], str]:
    """What finds an image's path in a folder by its name in a file of captions that lies in another folder; '' where there is none."""
    there = [within(image, folder) for image in every(folder, PICTURES)]
    whole, count = set(there), Counter(Path(image).name for image in there)
    alone = {Path(image).name: image for image in there if count[Path(image).name] == 1}

    def find(where: Path, name: str) -> str:
        near, from_folder = within(where / name, folder), Path(name).as_posix()
        return near if near in whole else from_folder if from_folder in whole else alone.get(Path(name).name, "")

    return find


def missing(what: str, names: list[str], total: int, where: str = "") -> str:
    """The sentence about images without captions."""
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    have = "has" if len(names) == 1 else "have"
    return f"{len(names)} of {total} {what} {have} no caption{where}: {shown}. Write captions for them, or remove them."


def within(file: Path, folder: Path) -> str:
    """The path of a file from a folder, with slashes; its own where it is not within."""
    return (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()


def read(source: Path) -> Iterator[Line]:
    """The lines of a file of captions; those whose caption is empty are left out.

    Raises:
        ValueError: it is not of its kind, or lacks a column.
    """
    try:
        lines = {".csv": _of_csv, ".jsonl": _of_jsonl, ".json": _of_coco}[source.suffix.lower()](source)
        yield from ((name, text.strip()) for name, text in lines if text and text.strip())
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise ValueError(
            f"The captions {source} cannot be read ({error}): they must be {source.suffix[1:]} in UTF-8."
        ) from error


def _of_csv(source: Path) -> Iterator[Line]:
    with source.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        name, text = columns(source, rows.fieldnames or [])
        for row in rows:
            yield row[name] or "", row[text] or ""


def _of_jsonl(source: Path) -> Iterator[Line]:
    for line in source.read_text(encoding="utf-8-sig").splitlines():
        if line.strip():
            row = json.loads(line)
            name, text = columns(source, row if isinstance(row, dict) else [])
            yield str(row[name]), str(row[text] or "")


def _of_coco(source: Path) -> Iterator[Line]:
    whole = json.loads(source.read_text(encoding="utf-8-sig"))
    try:
        names = {image["id"]: image["file_name"] for image in whole["images"]}
        yield from ((names[note["image_id"]], note["caption"]) for note in whole["annotations"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"The captions {source} are not COCO's: 'images' and 'annotations' are needed.") from error


def columns(source: Path, given: Iterable[str]) -> tuple[str, str]:
    """The names of the columns of image files and of captions.

    Raises:
        ValueError: one is not there.
    """
    has = list(given)
    found = [next((name for name in names if name in has), "") for names in (FILES, TEXTS)]
    for what, names, one in zip(("image files", "captions"), (FILES, TEXTS), found, strict=True):
        if not one:
            raise ValueError(
                f"The captions {source} have no column of {what}: call it {' or '.join(names)}; they have {', '.join(has) or 'none'}."
            )
    return found[0], found[1]
