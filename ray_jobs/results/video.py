"""Videos: several recordings side by side, as a GIF or an MP4."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ray_jobs.errors import UsageError
from ray_jobs.run import files

LINE = 18
"""Pixels of the line of text above each recording."""
FASTEST = 25.0
"""Frames in a second of a GIF, at most; faster recordings leave some out."""
LAST = 1.0
"""Seconds for which the last frame stays."""


def tiled(recordings: Sequence[tuple[Sequence[np.ndarray], Sequence[str]]]) -> Iterator[Image.Image]:
    """Pictures of several recordings in a grid, each under its line of text; one that is over shows its last frame.

    Args:
        recordings: the frames [H, W, 3] uint8 of each, all of one size, and the text above each frame.
    """
    high, wide = recordings[0][0][0].shape[:2]
    columns = int(np.ceil(np.sqrt(len(recordings))))
    size = columns * wide, -(-len(recordings) // columns) * (high + LINE)
    font = ImageFont.load_default(12)
    for t in range(max(len(frames) for frames, _ in recordings)):
        picture = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(picture)
        for k, (frames, texts) in enumerate(recordings):
            x, y, at = k % columns * wide, k // columns * (high + LINE), min(t, len(frames) - 1)
            draw.text((x + 4, y + 2), texts[at], fill="black", font=font)
            picture.paste(Image.fromarray(frames[at]), (x, y + LINE))
            draw.rectangle((x, y, x + wide - 1, y + high + LINE - 1), outline="lightgrey")
        yield picture


def write(pictures: Sequence[Image.Image], fps: float, path: Path) -> Path:
    """Write a GIF or an MP4, by the end of the file's name.

    Raises:
        UsageError: an MP4 is asked for, and the package that writes them is missing.
    """
    stride = max(1, round(fps / FASTEST))
    kept = [*pictures[:-1:stride], pictures[-1]]
    kept += [pictures[-1]] * round(LAST * fps / stride)
    rate = fps / stride
    files.write(path, _mp4(kept, rate) if path.suffix == ".mp4" else _gif(kept, rate))
    return path


def _gif(pictures: Sequence[Image.Image], fps: float) -> bytes:
    file, paletted = io.BytesIO(), [picture.quantize(128, dither=Image.Dither.NONE) for picture in pictures]
    paletted[0].save(file, "GIF", save_all=True, append_images=paletted[1:], duration=round(1000 / fps), loop=0)
    return file.getvalue()


def _mp4(pictures: Sequence[Image.Image], fps: float) -> bytes:
    try:
        import imageio_ffmpeg
    except ImportError:
        raise UsageError("MP4 needs a package: pip install 'reprise[video]', or leave --video mp4 out.") from None
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        writer = imageio_ffmpeg.write_frames(
            file.name, pictures[0].size, fps=fps, macro_block_size=2, ffmpeg_log_level="error"
        )
        writer.send(None)
        for picture in pictures:
            writer.send(np.asarray(picture).tobytes())
        writer.close()
        return Path(file.name).read_bytes()
