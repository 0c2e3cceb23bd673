"""Real emoji with their names and keywords: made once of two npm packages, as parquet files in the user's cache.

    python -m datamodules.emoji            # into the cache, where `--data emoji` finds them
    python -m datamodules.emoji FOLDER     # into a folder that does not exist yet

Source: images: Twemoji 16 (CC BY 4.0, its contributors), by the sheet of 64 x 64 pixels in npm's emoji-datasource-twitter; names,
keywords and groups: Unicode's in English, by npm's emojibase-data (MIT).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.packages import Package, cache, fetched, member

IMAGES = Package(
    "emoji-datasource-twitter", "16.0.0", "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877"
)
NAMES = Package("emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a")
SIZES = (32, 64)
"""Height and width of the images that are made; those of the sheet are the last."""
BORDER = 1
"""Transparent pixels around each image of the sheet."""
TENTH = 10
"""One of so many families is held out."""
TONES = re.compile(r"-?\b1F3F[B-F]\b")
ADULTS = re.compile(r"\b1F46[89]\b")
FORMS = re.compile(r"-200D-(2640|2642|27A1)\b")
"""Joined signs for a woman, a man, and facing right."""
ABOUT = """{images} images in {families} families, of which {held} images are held out.
Images: Twemoji 16, Copyright its contributors, CC BY 4.0 (package {pictures}).
Names and keywords: package {names}, MIT.
"""


@dataclass(frozen=True)
class Emoji:
    """One emoji: where its image is, and what it is called."""

    code: str
    """Its Unicode points, such as 1F44B-1F3FB, without the selector FE0F."""
    place: tuple[int, int]
    """Column and row of the sheet."""
    captions: tuple[str, ...]
    """Its name, and its keywords where it has some."""
    group: int
    """Unicode's, 0 to 9."""

    @property
    def held_out(self) -> bool:
        """Whether its family is held out."""
        return number(family(self.code)) % TENTH == 0


def family(code: str) -> str:
    """The code without skin tones, woman, man and direction: emoji of one family look alike and stay on one side of the split."""
    return FORMS.sub("", ADULTS.sub("1F9D1", TONES.sub("", code)))


def number(text: str) -> int:
    """A number that looks random and follows from a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def folder(size: int = 32, *, place: Path | None = None) -> Path:
    """The folder of the parquet files of emoji of 32 or 64 pixels, whichever is enough; they are made at the first call.

    Args:
        place: of both sizes; None: in the user's cache.

    Raises:
        ValueError: a package cannot be fetched or is not the known one.
    """
    place = place or cache() / f"emoji-{IMAGES.version}-{NAMES.version}"
    if not place.exists():
        make(place)
    return place / str(next((have for have in SIZES if have >= size), SIZES[-1]))


def make(place: Path, *, images: Package = IMAGES, names: Package = NAMES) -> None:
    """Fetch the packages and write `SIZE/train.parquet` and `SIZE/test.parquet`; the folder appears when all of it is there.

    The columns are image, caption (a list: the name, then the keywords in one text), label (the group) and code. What was fetched is
    kept next to the folder until it is done, so that another attempt does not fetch it again.

    Raises:
        ValueError: a package cannot be fetched, is not the known one, or holds something else than expected; or the folder exists.
    """
    if place.exists():
        raise ValueError(f"The folder {place} exists: name one that does not, into which the emoji are written.")
    store = place.parent / ".packages"
    archives = [fetched(package, store) for package in (images, names)]
    every = read(*archives)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".emoji-") as half:
        whole = Path(half) / "whole"
        write(every, sheet(archives[0], every), whole)
        held = sum(one.held_out for one in every)
        about = {"images": len(every), "families": len({family(one.code) for one in every}), "held": held}
        text = ABOUT.format(**about, pictures=images.file, names=names.file)
        (whole / "ABOUT.txt").write_text(text)
        if not place.exists():  # another process may have been faster
            whole.rename(place)
    for archive in archives:
        archive.unlink(missing_ok=True)


def read(images: Path, names: Path) -> list[Emoji]:
    """All emoji that have an image and a name, in an order that looks random and is always the same.

    Raises:
        ValueError: a package holds something else than expected.
    """
    try:
        called = dict(named(json.loads(member(names, "package/en/data.json"))))
        drawn = dict(placed(json.loads(member(images, "package/emoji.json"))))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"The packages {images.name} and {names.name} do not hold lists of emoji as expected ({type(error).__name__}: {error})."
        ) from error
    found = [Emoji(code, drawn[code], *called[code]) for code in drawn.keys() & called.keys()]
    if not found:
        raise ValueError(f"No emoji of {images.name} has a name in {names.name}.")
    return sorted(found, key=lambda one: (number(one.code), one.code))


def named(entries: list[dict[str, Any]]) -> Iterator[tuple[str, tuple[tuple[str, ...], int]]]:
    """Code -> captions and group, of emojibase's list; variants by skin tone have no keywords. Letters of flags are left out."""
    for entry in entries:
        if "group" in entry:
            keywords = ", ".join(entry.get("tags", ()))
            yield (
                plain(entry["hexcode"]),
                ((entry["label"], keywords) if keywords else (entry["label"],), entry["group"]),
            )
            for variant in entry.get("skins", ()):
                yield plain(variant["hexcode"]), ((variant["label"],), entry["group"])


def placed(entries: list[dict[str, Any]]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Code -> column and row of the sheet, of emoji-datasource's list, of all emoji that are drawn."""
    for entry in entries:
        for one in (entry, *entry.get("skin_variations", {}).values()):
            if one["has_img_twitter"]:
                yield plain(one["unified"]), (one["sheet_x"], one["sheet_y"])


def plain(code: str) -> str:
    """A code without the selector of coloured presentation, which the two packages write differently."""
    return code.upper().replace("-FE0F", "")


def sheet(archive: Path, every: Iterable[Emoji]) -> Any:
    """The sheet of all images, in RGBA.

    Raises:
        ValueError: it cannot be read, or is too small for the places of these emoji.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(member(archive, f"package/img/twitter/sheets-clean/{SIZES[-1]}.png"))) as opened:
            found = opened.convert("RGBA")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"The sheet of images in {archive.name} cannot be read ({error}).") from error
    across = SIZES[-1] + 2 * BORDER
    needed = [across * (1 + max(one.place[axis] for one in every)) for axis in (0, 1)]
    if found.size[0] < needed[0] or found.size[1] < needed[1]:
        raise ValueError(
            f"The sheet of images in {archive.name} has {found.size[0]} x {found.size[1]} pixels, but its emoji need "
            f"{needed[0]} x {needed[1]}."
        )
    return found


def cut(whole: Any, place: tuple[int, int], size: int) -> bytes:
    """The image at a place of the sheet, on white, as PNG of this size."""
    from PIL import Image

    full = SIZES[-1]
    left, top = (at * (full + 2 * BORDER) + BORDER for at in place)
    image = Image.new("RGBA", (full, full), "white")
    image.alpha_composite(whole, source=(left, top, left + full, top + full))
    image, file = image.convert("RGB"), io.BytesIO()
    if size != full:
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    image.save(file, "png")
    return file.getvalue()


def write(every: list[Emoji], whole: Any, place: Path) -> None:
    """The parquet files of all sizes and both sides of the split, in a new folder."""
    import pyarrow
    import pyarrow.parquet

    for size in SIZES:
        (place / str(size)).mkdir(parents=True)
        for split in ("train", "test"):
            rows = [one for one in every if one.held_out == (split == "test")]
            columns = {
                "image": [{"bytes": cut(whole, one.place, size), "path": None} for one in rows],
                "caption": [list(one.captions) for one in rows],
                "label": [one.group for one in rows],
                "code": [one.code for one in rows],
            }
            pyarrow.parquet.write_table(pyarrow.table(columns), place / str(size) / f"{split}.parquet")


def main() -> None:
    """Make the emoji, and print where they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", nargs="?", type=Path, help="a folder that does not exist yet; default: in the user's cache"
    )
    where = parser.parse_args().folder
    try:
        if where:
            make(found := where.expanduser().absolute())
        else:
            found = folder().parent
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    print(f"{found}\n{(found / 'ABOUT.txt').read_text()}", end="")


if __name__ == "__main__":
    main()
