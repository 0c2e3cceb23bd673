"""Inception v3 as FID has it: the network of TensorFlow's file of 2015-12-05, whose features every published FID is of.

Source: Szegedy et al. 2015, arXiv:1512.00567, table 1; Heusel et al. 2017, arXiv:1706.08500 (FID). Names of weights are those of
`pt_inception-2015-12-05-6726825d.pth`, which pytorch-fid and torch-fidelity offer.
Differs: from the paper as TensorFlow's file does: means of the edges leave the padding out, the last block takes a maximum where the
paper takes a mean, and images are resized by TensorFlow 1's bilinear rule.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 299
"""Height and width to which images are brought."""


class InceptionV3(nn.Module):
    """Images [N, 3, H, W] uint8 -> features [N, 2048] and logits [N, 1008], without their bias, as the Inception score takes them."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _A(192, 32), _A(256, 64), _A(288, 64)
        self.Mixed_6a = _B(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = _C(128), _C(160), _C(160), _C(192)
        self.Mixed_7a = _D()
        self.Mixed_7b, self.Mixed_7c = _E(1280, mean_of_edges), _E(2048, maximum)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = (resized(images.float(), SIDE) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        features = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))
        return features, features @ self.fc.weight.T


def resized(x: Tensor, side: int) -> Tensor:
    """Images [N, C, H, W] -> [N, C, side, side] by TensorFlow 1's bilinear rule: output i is at the place i H / side of the input."""
    for axis in (2, 3):
        size = x.shape[axis]
        place = torch.arange(side, device=x.device) * torch.tensor(size / side, device=x.device)
        low = place.long()
        part = (place - low).reshape(-1, *[1] * (3 - axis))
        below, above = x.index_select(axis, low), x.index_select(axis, (low + 1).clamp(max=size - 1))
        x = below + (above - below) * part
    return x


def mean_of_edges(x: Tensor) -> Tensor:
    """Means of 3 x 3 pixels, of those that are in the picture."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def maximum(x: Tensor) -> Tensor:
    """Maxima of 3 x 3 pixels."""
    return F.max_pool2d(x, 3, 1, 1)


class _Conv(nn.Module):
    def __init__(
        self, channels: int, out: int, kernel: int | tuple[int, int], stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        wide = padding if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(channels, out, kernel, stride, wide, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class _A(nn.Module):
    def __init__(self, channels: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(channels, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = _Conv(channels, 48, 1), _Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Conv(channels, 64, 1), _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, padding=1)
        self.branch_pool = _Conv(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(mean_of_edges(x))], 1)


class _B(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = _Conv(channels, 384, 3, stride=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Conv(channels, 64, 1), _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class _C(nn.Module):
    def __init__(self, inner: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(768, 192, 1)
        self.branch7x7_1, self.branch7x7_2 = _Conv(768, inner, 1), _Conv(inner, inner, (1, 7))
        self.branch7x7_3 = _Conv(inner, 192, (7, 1))
        self.branch7x7dbl_1, self.branch7x7dbl_2 = _Conv(768, inner, 1), _Conv(inner, inner, (7, 1))
        self.branch7x7dbl_3, self.branch7x7dbl_4 = _Conv(inner, inner, (1, 7)), _Conv(inner, inner, (7, 1))
        self.branch7x7dbl_5 = _Conv(inner, 192, (1, 7))
        self.branch_pool = _Conv(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(mean_of_edges(x))], 1)


class _D(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = _Conv(768, 192, 1), _Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1, self.branch7x7x3_2 = _Conv(768, 192, 1), _Conv(192, 192, (1, 7))
        self.branch7x7x3_3, self.branch7x7x3_4 = _Conv(192, 192, (7, 1)), _Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, 2)], 1)


class _E(nn.Module):
    def __init__(self, channels: int, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool
        self.branch1x1 = _Conv(channels, 320, 1)
        self.branch3x3_1 = _Conv(channels, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = _Conv(384, 384, (1, 3)), _Conv(384, 384, (3, 1))
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Conv(channels, 448, 1), _Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = _Conv(384, 384, (1, 3)), _Conv(384, 384, (3, 1))
        self.branch_pool = _Conv(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        threes = [self.branch3x3_2a(three), self.branch3x3_2b(three)]
        doubles = [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *threes, *doubles, self.branch_pool(self.pool(x))], 1)
