"""Autoregressive models by their own names, on a user's data: `reprise train wavenet --data waves/`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray_jobs.recipe import Fit, Headline, Location, fit
from ray_jobs.recipe.measures import held_out

if TYPE_CHECKING:
    from lightning_modules.autoregressive.pixels import PixelModel

PIXELS = Headline("van den Oord et al. 2016", arxiv="1601.06759")
OPTIONS: dict[str, Any] = {
    "data": "", "steps": 5000, "batch": 32, "lr": 1e-3, "warmup": 100, "ema": 0.998, "grad_clip": 1.0
}  # fmt: skip
"""Options of a training on a user's data."""


def on_images(model: type[PixelModel], data: str, size: int, depth: int, width: int, head: int) -> Fit:
    """The plan of a model of images on a user's images."""
    from datamodules.readers.own import read

    images = read(data, kind="images", size=size)
    return Fit(model(images.shape, depth=depth, width=width, head=head, levels=images.levels or 256), images, held_out)  # type: ignore[call-arg]


@fit(system="PixelCNN", headline=PIXELS, **OPTIONS)
def pixelcnn(*, data: Location = "", size: int = 0, depth: int = 7, width: int = 64, head: int = 256) -> Fit:
    """PixelCNN on images.

    Args:
        data: a folder of images, or the name of a set.
        size: height and width that the images of a folder are brought to; 0: 32.
        depth: residual blocks.
        width: channels of each block.
        head: channels of the last layers.
    """
    from lightning_modules.autoregressive.pixelcnn import PixelCNN

    return on_images(PixelCNN, data, size, depth, width, head)


@fit(system="Row LSTM", headline=PIXELS, **OPTIONS)
def row_lstm(*, data: Location = "", size: int = 0, depth: int = 4, width: int = 32, head: int = 256) -> Fit:
    """PixelRNN with Row LSTM layers on images.

    Args:
        data: a folder of images, or the name of a set.
        size: height and width that the images of a folder are brought to; 0: 32.
        depth: layers.
        width: channels of each layer.
        head: channels of the last layers.
    """
    from lightning_modules.autoregressive.row_lstm import RowLSTM

    return on_images(RowLSTM, data, size, depth, width, head)


@fit(system="Diagonal BiLSTM", headline=PIXELS, **OPTIONS)
def diagonal_bilstm(*, data: Location = "", size: int = 0, depth: int = 4, width: int = 32, head: int = 256) -> Fit:
    """PixelRNN with Diagonal BiLSTM layers on images.

    Args:
        data: a folder of images, or the name of a set.
        size: height and width that the images of a folder are brought to; 0: 32.
        depth: layers.
        width: channels of each layer.
        head: channels of the last layers.
    """
    from lightning_modules.autoregressive.diagonal_bilstm import DiagonalBiLSTM

    return on_images(DiagonalBiLSTM, data, size, depth, width, head)


@fit(system="MADE", headline=Headline("Germain et al. 2015", arxiv="1502.03509"), **OPTIONS)
def made(*, data: Location = "", size: int = 0, width: int = 500, orders: int = 1) -> Fit:
    """MADE on black-and-white images.

    Args:
        data: a folder of images, or the name of a set; a pixel is white where it is brighter than the middle.
        size: height and width that the images of a folder are brought to; 0: 32.
        width: units of the hidden layer.
        orders: orders of the pixels that are averaged over.
    """
    from datamodules.binary import Binary
    from datamodules.readers.own import read
    from lightning_modules.autoregressive.made import MADE

    images = read(data, kind="images", size=size)
    binary = images if images.levels == 2 else Binary(images)
    return Fit(MADE(binary.shape, hidden=(width,), orders=orders), binary, held_out)


@fit(system="WaveNet", headline=Headline("van den Oord et al. 2016", arxiv="1609.03499"), **OPTIONS | {"batch": 8})
def wavenet(
    *, data: Location = "", size: int = 0, layers: int = 10, stacks: int = 1, residual: int = 32, skip: int = 64
) -> Fit:
    """WaveNet on waves.

    Args:
        data: a folder of WAV or parquet files, a set on the hub, or the name of a laboratory.
        size: samples of an example; 0: one second.
        layers: dilated convolutions in all.
        stacks: how often the dilations start again from 1.
        residual: channels of each layer.
        skip: channels of the skip connections.
    """
    from datamodules.readers.own import read
    from lightning_modules.autoregressive.wavenet import WaveNet

    waves = read(data, kind="waves", size=size)
    model = WaveNet(
        waves.shape[0], levels=waves.levels or 256, layers=layers, stacks=stacks, residual=residual, skip=skip,
        classes=waves.classes, rate=getattr(waves, "rate", 16_000),
    )  # fmt: skip
    return Fit(model, waves, held_out)
