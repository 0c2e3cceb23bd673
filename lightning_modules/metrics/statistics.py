"""Mean and covariance of features of a set of images, and the file that keeps them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from lightning_modules.metrics.features import Features


class Moments:
    """Mean and covariance of features [N, D] that come in parts, in float64."""

    def __init__(self, size: int) -> None:
        self.n, self.sum = 0, torch.zeros(size, dtype=torch.float64)
        self.squares = torch.zeros(size, size, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Count a part [B, D] in."""
        x = features.double().cpu()
        self.n += len(x)
        self.sum += x.sum(0)
        self.squares.addmm_(x.T, x)

    @property
    def mean(self) -> Tensor:
        """[D]."""
        return self.sum / self.n

    @property
    def cov(self) -> Tensor:
        """The unbiased covariance [D, D]."""
        return (self.squares - self.n * torch.outer(self.mean, self.mean)) / (self.n - 1)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Moments of the features of a set of images, and what they are of."""

    mean: Tensor
    """[D], float64."""
    cov: Tensor
    """[D, D], float64."""
    n: int
    """Images."""
    side: tuple[int, int]
    """Height and width of the images, before the network brings them to its own."""
    sha256: str
    """Of the network's file."""
    of: str
    """The images, in words, such as 'train of edm_cifar10'."""

    def write(self, file: BinaryIO) -> None:
        """Write an .npz with the arrays `mu` and `sigma`, as other programs have it, and the rest as JSON in `about`."""
        about = {"n": self.n, "side": self.side, "sha256": self.sha256, "of": self.of}
        np.savez(file, mu=self.mean.numpy(), sigma=self.cov.numpy(), about=np.array(json.dumps(about)))


def read(path: Path) -> Statistics:
    """The statistics in a file that `Statistics.write` wrote.

    Raises:
        ValueError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise ValueError(f"There is no file {path} of statistics: write one with 'reprise statistics'.")
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        about = json.loads(str(arrays["about"]))
        mean, cov = (torch.from_numpy(arrays[name].astype(np.float64)) for name in ("mu", "sigma"))
        high, wide = (int(n) for n in about["side"])
        made = Statistics(mean, cov, int(about["n"]), (high, wide), str(about["sha256"]), str(about["of"]))
    except Exception as error:  # a foreign or damaged file fails in many ways
        raise ValueError(
            f"{path} is no file of statistics that 'reprise statistics' wrote ({type(error).__name__}): it must say which "
            "network, how many images and which resolution its numbers are of."
        ) from None
    if mean.ndim != 1 or cov.shape != (len(mean), len(mean)) or not (mean.isfinite().all() and cov.isfinite().all()):
        raise ValueError(f"{path} is damaged: its mean and covariance do not fit each other.")
    return made


def check(found: Statistics, path: Path, features: Features, side: tuple[int, int]) -> None:
    """Refuse statistics that are not of these features, or of images of another resolution.

    Raises:
        ValueError: they are.
    """
    if found.sha256 != features.sha256:
        raise ValueError(
            f"{path} holds statistics of the network {found.sha256[:8]}..., but --features is {features.kind.title}, "
            f"{features.sha256[:8]}...: write them again with that."
        )
    if found.side != side:
        theirs, ours = ("x".join(map(str, size)) for size in (found.side, side))
        raise ValueError(
            f"{path} holds statistics of images of {theirs} pixels, but these have {ours}: write them again."
        )
    if found.n < features.least:
        raise ValueError(
            f"{path} is of {found.n:,} images: a covariance of {features.kind.size:,} features needs at least {features.least:,}."
        )
