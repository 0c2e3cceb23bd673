"""Features of images by a network of a local file whose SHA-256 is checked: what FID, KID, precision, recall and IS are of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.metrics.efficientnet import EfficientNetLite0, package_file
from lightning_modules.metrics.inception import InceptionV3

LITE0 = "efficientnet_lite0"
"""The word for the network of the installed package."""
BATCH = 64
"""Images that go through a network at once."""


class Kind(NamedTuple):
    """A network that images are measured by, and the names of what is measured."""

    title: str
    sha256: str
    """Of its file, or the first digits."""
    size: int
    """Features of an image."""
    build: Callable[[], nn.Module]
    """The network: images [N, 3, H, W] uint8 -> features [N, size] and logits [N, K]."""
    frechet: str
    """The name of the Frechet distance: only in Inception's features it is FID."""
    score: str
    """The name of the score by classes: only by Inception's it is IS."""
    suffix: str
    """Behind the names of the other metrics."""


INCEPTION = Kind("Inception v3", "6726825d", 2048, InceptionV3, "fid", "inception_score", "")
"""`pt_inception-2015-12-05-6726825d.pth`, whose name has the first digits of its SHA-256."""
EFFICIENTNET = Kind(
    "EfficientNet-Lite0", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 1280,
    EfficientNetLite0, "frechet_lite0", "class_score_lite0", "_lite0",
)  # fmt: skip
KINDS = (INCEPTION, EFFICIENTNET)


@dataclass(frozen=True)
class Features:
    """A network with its weights, ready to measure.

    Args:
        kind: which one.
        sha256: of the whole file.
        net: in evaluation mode.
    """

    kind: Kind
    sha256: str
    net: nn.Module

    @property
    def least(self) -> int:
        """The fewest images whose features have a covariance of full rank."""
        return self.kind.size + 1

    def to(self, device: torch.device) -> Features:
        """The same, on a device."""
        self.net.to(device)
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, size] and logits [N, K], on the CPU, of images [N, 1 or 3, H, W] in [-1, 1]."""
        device = next(self.net.parameters()).device
        parts = [self.net(to_uint8(part).to(device)) for part in images.split(BATCH)]
        features, logits = (torch.cat(found).cpu() for found in zip(*parts, strict=True))
        return features, logits


def load(where: str | Path) -> Features:
    """The network of a file, recognised by its SHA-256; `efficientnet_lite0` is the file of the installed package.

    Raises:
        ValueError: there is no such file, it is no network that is known here, or the package is not installed.
    """
    path = Path(package_file() if where == LITE0 else where).expanduser()
    if not path.is_file():
        raise ValueError(
            f"There is no file {path} of a network of features: give pt_inception-2015-12-05-6726825d.pth, or {LITE0}."
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    kind = next((kind for kind in KINDS if found.startswith(kind.sha256)), None)
    if kind is None:
        known = " or ".join(f"{kind.sha256[:8]}... ({kind.title})" for kind in KINDS)
        raise ValueError(
            f"{path} is no network of features that is known here: its SHA-256 is {found[:8]}..., not {known}."
        )
    with torch.random.fork_rng(devices=[]):
        net = kind.build()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    net.requires_grad_(False)
    return Features(kind, found, net.eval().to(memory_format=torch.channels_last))


def to_uint8(x: Tensor) -> Tensor:
    """Images [N, 1 or 3, H, W], clamped to [-1, 1] -> [N, 3, H, W], uint8: 127.5 x + 127.5, rounded.

    Source: EDM's generate.py, which rounds; guided-diffusion's image_sample.py cuts the fraction off.
    """
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).expand(-1, 3, -1, -1)
