"""A distance of images by the features of a network that does not train.

Source: Zhang et al. 2018, arXiv:1801.03924, eq. 1, with all weights of channels 1.
Differs: the network is EfficientNet-Lite0 from the installed package, for the authors' weights of VGG cannot be had offline.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.metrics.efficientnet import SIDE, EfficientNetLite0
from lightning_modules.metrics.features import LITE0, load

TAKEN = (0, 2, 4, 10)
"""Blocks whose outputs are compared, at a half to a sixteenth of the resolution."""


class Perceptual:
    """The distance [B] of images x and x' [B, 1 or 3, H, W] in [-1, 1], with gradients to both.

    Args:
        net: the network; None: that of the installed package.

    Raises:
        ValueError: the package is not installed.
    """

    def __init__(self, net: EfficientNetLite0 | None = None) -> None:
        found: nn.Module = load(LITE0).net if net is None else net
        self.net = found.requires_grad_(False).eval()

    def features(self, x: Tensor) -> list[Tensor]:
        """Outputs of some blocks, each of unit length at each position."""
        net: EfficientNetLite0 = self.net.to(x.device)  # type: ignore[assignment]
        h = F.interpolate(x.expand(-1, 3, -1, -1) * (127.5 / 128), (SIDE, SIDE), mode="bilinear", antialias=True)
        h, found = net.stem(h), []
        for i, block in enumerate(net._blocks[: TAKEN[-1] + 1]):
            h = block(h)
            if i in TAKEN:
                found.append(F.normalize(h, dim=1))
        return found

    def __call__(self, x: Tensor, other: Tensor) -> Tensor:
        """The squared differences, summed over channels and blocks, means over positions."""
        pairs = zip(self.features(x), self.features(other), strict=True)
        return torch.stack([(a - b).square().sum(1).mean((1, 2)) for a, b in pairs]).sum(0)
