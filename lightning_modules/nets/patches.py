"""Patches of images: squares of pixels as channels or as rows, and which sizes of images can be cut so."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def patchify(x: Tensor, side: int) -> Tensor:
    """Images [B, C, H, W] -> rows [B, H/side W/side, C side^2], line by line; in a row the channels come first."""
    return F.pixel_unshuffle(x, side).flatten(2).transpose(1, 2)


def unpatchify(rows: Tensor, side: int, height: int, width: int) -> Tensor:
    """The inverse of `patchify`, for images [B, C, height, width]."""
    squares = rows.transpose(1, 2).unflatten(2, (height // side, width // side))
    return F.pixel_shuffle(squares, side)


def check_size(shape: tuple[int, ...], channels: int, unit: int, what: str) -> None:
    """Check images [..., C, H, W] before a network.

    Args:
        unit: the number of which height and width must be multiples.
        what: the network does with images that needs it, as the beginning of a sentence: 'This U-Net halves images 2 times'.

    Raises:
        ValueError: other channels, or a size that is no such multiple; the sentence names the nearest that works.
    """
    if len(shape) < 3 or shape[-3] != channels:
        raise ValueError(
            f"This network was built for images [B, {channels}, H, W], that is, of {channels} channels, not for {shape}."
        )
    height, width = shape[-2:]
    if height % unit or width % unit or not height or not width:
        near = " x ".join(str(max(1, round(side / unit)) * unit) for side in (height, width))
        raise ValueError(f"{what} and got {shape}: height and width must be multiples of {unit}, such as {near}.")
