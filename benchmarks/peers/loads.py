"""What the scripts of `benchmarks.loading` share: the examples, and batches per second of a loader."""

import argparse
import io
import json
import tempfile
import time
from pathlib import Path

import numpy as np

BATCH = 128
TENSORS, FILES = 20_000, 5_000


def arguments() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", choices=("numbers", "images", "files"), default="images")
    parser.add_argument("--way", default="")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=4.0)
    return parser.parse_args()


def pixels(n: int) -> np.ndarray:
    """Images [n, 32, 32, 3] uint8, smooth enough to be compressed as photographs are."""
    small = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    return small.repeat(4, 1).repeat(4, 2)


def tensors(kind: str) -> np.ndarray:
    """43 numbers an example, or images [3, 32, 32], float32."""
    if kind == "numbers":
        return np.random.default_rng(0).normal(size=(TENSORS, 43)).astype(np.float32)
    return np.ascontiguousarray(pixels(TENSORS).transpose(0, 3, 1, 2), dtype=np.float32) / 127.5 - 1


def parquet() -> Path:
    """A folder with one file of PNG images in CIFAR-10's columns."""
    from datasets import Dataset
    from PIL import Image

    rows: dict = {"img": [], "label": [k % 10 for k in range(FILES)]}
    for x in pixels(FILES):
        Image.fromarray(x).save(file := io.BytesIO(), "png")
        rows["img"].append({"bytes": file.getvalue(), "path": None})
    folder = Path(tempfile.mkdtemp(dir="."))
    Dataset.from_dict(rows).to_parquet(str(folder / "train.parquet"))
    return folder


def measure(loader, seconds: float) -> None:
    """Print batches and examples per second after the first ten batches; a loader that ends is started again."""

    def without_end():
        while True:
            yield from loader

    stream = without_end()
    for _ in range(10):
        first = next(stream)
    size = len(first["x"] if isinstance(first, dict) else first[0])
    assert size == BATCH
    batches, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        next(stream)
        batches += 1
    print("\n" + json.dumps({"batches_per_s": batches / spent, "examples_per_s": batches * BATCH / spent}))
