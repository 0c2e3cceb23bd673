"""One picture at a time: decoded, turned upright, brought to grey or colour and to a square."""

from __future__ import annotations

import io
import struct
from typing import Any

DEEP = ("I", "F")
"""Beginnings of Pillow's modes with more than 8 bits for a channel."""


BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
    EOFError,
    struct.error,
)
"""What Pillow raises for files that it cannot decode."""


def upright(picture: dict[str, Any], name: str) -> Any:
    """The decoded image, turned and mirrored as its EXIF orientation says.

    Raises:
        ValueError: it cannot be decoded, or it holds several pictures.
    """
    from PIL import Image, ImageOps

    try:
        opened = Image.open(io.BytesIO(picture["bytes"]) if picture["bytes"] else picture["path"])
        frames = (
            1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)
        )  # MPO: a photo, and what else the camera added
        opened.load()
        ImageOps.exif_transpose(opened, in_place=True)
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise ValueError(f"The image {name} cannot be read ({error}): the file is corrupt.") from error
    if frames > 1:
        raise ValueError(
            f"The image {name} is moving or has pages ({frames} pictures in one file): save them as files of their own."
        )
    return opened


def in_channels(picture: Any, channels: int, name: str) -> Any:
    """The image in colour or grey; colour is made of grey, and never grey of colour."""
    bands = picture.getbands()
    if picture.mode.startswith(DEEP):
        raise ValueError(f"The image {name} has values of more than 8 bits (mode {picture.mode}): 0 to 255 is needed.")
    if channels == 1 and (len(bands) > 2 or picture.mode.startswith("P")):
        raise ValueError(f"The image {name} has the channels {''.join(bands)}, not 1 grey one: set channels to 3.")
    mode = "L" if channels == 1 else "RGB"
    try:
        if not picture.has_transparency_data:
            return picture.convert(mode)
        return on_white(picture).convert(mode)
    except BROKEN as error:
        raise ValueError(
            f"The image {name} cannot be brought from the mode {picture.mode} to {mode} ({error})."
        ) from error


def on_white(picture: Any) -> Any:
    """An image with transparent pixels, in colour on a white ground."""
    from PIL import Image

    above = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")


def centre(picture: Any, crop: int, size: int) -> Any:
    """The centre square of side `crop` (0: the largest) brought to `size`."""
    from PIL import Image

    wide, high = picture.size
    side = crop or min(wide, high)
    left, top = round((wide - side) / 2), round((high - side) / 2)
    return picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
