"""`reprise sample RUN --control edges.png`: the picture that samples of a ControlNet follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_jobs.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def with_control(options: Mapping[str, Any], place: str, model: Any, n: int) -> dict[str, Any]:
    """The arguments of the model's `sample` of n examples, with the picture of a file as the control in their conditions.

    Args:
        options: the other arguments, 'cond' among them or not.
        place: of the file; '' for no control.

    Raises:
        UsageError: the model follows no control, or there is no such file, or none that can be read, or of another size.
    """
    if not place:
        return dict(options)
    from lightning_modules.conditions import as_cond
    from lightning_modules.diffusion.models.controlnet import ControlNet

    net = getattr(model, "net", None)
    if not isinstance(net, ControlNet):
        raise UsageError(f"{type(model).__name__} takes no --control: that is for runs of a ControlNet.")
    shape = net.control_shape(model.space.latent_shape(model.shape))
    control = control_map(place, shape).expand(n, *shape)
    return {**options, "cond": replace(as_cond(options.get("cond")), control=control)}


def control_map(place: str, shape: tuple[int, ...]) -> Tensor:
    """The picture of a file, [*shape] in [0, 1]; grey where the shape has one channel.

    Raises:
        UsageError: there is no such file, or it cannot be read or has another size.
    """
    import numpy as np
    import torch

    from datamodules.readers.pictures import in_channels, upright

    channels, height, width = shape
    try:
        picture = in_channels(upright({"bytes": Path(place).expanduser().read_bytes()}, place), 3, place)
    except OSError as error:
        raise UsageError(f"--control {place} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise UsageError(f"--control: {error}") from None
    if picture.size != (width, height):
        raise UsageError(
            f"--control {place} has {picture.width} x {picture.height} pixels, but this run follows maps of {width} x {height}."
        )
    values = np.asarray(picture.convert("L" if channels == 1 else "RGB"), dtype=np.float32).reshape(
        height, width, channels
    )
    return torch.from_numpy(values / 255).permute(2, 0, 1)
