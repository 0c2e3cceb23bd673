"""FID and Inception score of images, by the features of a local copy of Inception v3."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

INCEPTION_HASH = "6726825d"
"""First digits of the SHA-256 of torch-fidelity's weights, `pt_inception-2015-12-05-6726825d.pth`."""


def weights_file(weights: str | Path) -> Path:
    """The path of the file of Inception's weights, after a check of its SHA-256.

    Raises:
        ValueError: it is missing or another file.
    """
    import hashlib

    path = Path(weights)
    if not path.is_file():
        raise ValueError(f"There is no file {path} of Inception's weights: give pt_inception-2015-12-05-6726825d.pth.")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(INCEPTION_HASH):
        raise ValueError(f"{path} is not Inception's weights: its SHA-256 is {found[:8]}..., not {INCEPTION_HASH}...")
    return path


def extractor(weights: str | Path, feature: str) -> nn.Module:
    """Inception v3 up to a feature, from a checked local file: uint8 images [N, 3, H, W] -> features [N, F].

    Args:
        feature: '2048' (for FID) or 'logits_unbiased' (for the Inception score).

    Raises:
        ValueError: the file cannot be used, or torch-fidelity is missing.
    """
    path = weights_file(weights)
    try:
        from torchmetrics.image.fid import NoTrainInceptionV3

        return NoTrainInceptionV3("inception-v3-compat", [feature], str(path))
    except ImportError as error:
        raise ValueError("FID and IS need Inception: pip install torch-fidelity torchmetrics.") from error


def to_uint8(x: Tensor) -> Tensor:
    """Images [N, 1 or 3, H, W], clamped to [-1, 1] -> [N, 3, H, W], uint8."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).expand(-1, 3, -1, -1)


def fid(drawn: Tensor, real: Tensor, net: nn.Module, *, batch: int = 64) -> float:
    """Frechet Inception distance between images [N, 1 or 3, H, W] and [M, 1 or 3, H, W] in [-1, 1].

    Args:
        net: uint8 images -> features, such as `extractor(weights, '2048')`.

    Source: Heusel et al. 2017, arXiv:1706.08500, eq. 6.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=net, input_img_size=(3, *drawn.shape[2:])).to(drawn.device)
    metric.set_dtype(torch.float64)
    for images, is_real in ((real, True), (drawn, False)):
        for part in images.split(batch):
            metric.update(to_uint8(part), real=is_real)
    return metric.compute().item()


def inception_score(drawn: Tensor, net: nn.Module, *, splits: int = 10, batch: int = 64) -> float:
    """Inception score of images [N, 1 or 3, H, W] in [-1, 1], the mean over splits.

    Args:
        net: uint8 images -> logits, such as `extractor(weights, 'logits_unbiased')`.

    Source: Salimans et al. 2016, arXiv:1606.03498, section 4.
    """
    from torchmetrics.image.inception import InceptionScore

    metric = InceptionScore(feature=net, splits=splits).to(drawn.device)
    for part in drawn.split(batch):
        metric.update(to_uint8(part))
    return metric.compute()[0].item()


def image_scores(drawn: Tensor, real: Tensor, weights: str) -> dict[str, float]:
    """FID and IS of drawn images [N, 1 or 3, H, W], FID to real ones [M, 1 or 3, H, W]; {} where `weights`, the file, is ''."""
    if not weights:
        return {}
    return {
        "fid": fid(drawn, real, extractor(weights, "2048").to(drawn.device)),
        "inception_score": inception_score(drawn, extractor(weights, "logits_unbiased").to(drawn.device)),
    }
