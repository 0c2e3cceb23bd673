"""Observations, actions and rewards of Gymnasium's environments in the one form in which algorithms take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

SMALLEST = 3
"""Pixels of a picture's side, at least."""
FRAME = 36
"""Pixels of a side from which on bytes [H, W] are a picture: the least that the network of Mnih et al. 2015 takes."""
OVER = 0.01
"""How far a picture may exceed its space's bounds, as a share of their distance; resampling exceeds them a little."""


def picture(space: gym.spaces.Box) -> bool:
    """Whether observations are pictures [C, H, W]: three dimensions, of bytes or with sides of 3 pixels or more."""
    return len(space.shape) == 3 and (space.dtype == np.uint8 or min(space.shape[1:]) >= SMALLEST)


class Observations:
    """How observations of a space are shown to an agent, in the Box `space`.

    Discrete ones become one-hot, tuples and dicts are concatenated; a single number becomes a vector of one; pictures [H, W, C]
    become [C, H, W], a stack of byte pictures [S, H, W, C] or [S, C, H, W] becomes [S C, H, W], and large bytes [H, W] become
    [1, H, W]; float64 becomes float32.

    Raises:
        ValueError: the space is no Box and does not flatten to one.
    """

    def __init__(self, given: gym.Space) -> None:
        if not isinstance(given, gym.spaces.Box) and not given.is_np_flattenable:
            raise ValueError(
                f"The observation space {given} is not supported: it must be Box, or something that flattens to one."
            )
        box = given if isinstance(given, gym.spaces.Box) else gym.spaces.flatten_space(given)
        self.given, self.flat = given, box is not given
        self.shape, self.dtype = box.shape, box.dtype
        self.axes = axes(box)
        low, high = self._arranged(box.low), self._arranged(box.high)
        self.space = box if low.shape == box.shape and self.axes is None else gym.spaces.Box(low, high, dtype=box.dtype)
        self.space = as_float32(self.space)
        self.bounds = bounds_of_picture(self.space)

    def _arranged(self, x: np.ndarray) -> np.ndarray:
        x = x if self.axes is None else x.transpose(self.axes)
        if x.ndim == 4 and self.axes is not None:
            return x.reshape(-1, *x.shape[2:])
        return x[None] if x.ndim == 0 or (x.ndim == 2 and self.axes is not None) else x

    def __call__(self, obs: Any) -> np.ndarray:
        """An observation in `space`; an array may share memory with the environment's.

        Raises:
            ValueError: it has another shape than its space, or values that the space cannot hold.
        """
        if self.flat:
            check_holds(self.given, obs)
            obs = gym.spaces.flatten(self.given, obs)
        if np.shape(obs) != self.shape:
            raise ValueError(f"an observation of shape {np.shape(obs)} in a space of shape {self.shape}")
        x = self._arranged(held(np.asarray(obs), self.dtype))
        if self.bounds is not None and (x.min() < self.bounds[0] or x.max() > self.bounds[1]):
            low, high = self.space.low.min(), self.space.high.max()
            raise ValueError(f"a picture of {x.min():g} to {x.max():g} in a space of {low:g} to {high:g}")
        return x


def axes(box: gym.spaces.Box) -> tuple[int, ...] | None:
    """The order of a picture's axes in which channels come before rows and columns; None where nothing changes."""
    size = box.shape
    if len(size) == 2 and box.dtype == np.uint8 and min(size) >= FRAME:
        return (0, 1)
    if len(size) == 4 and box.dtype == np.uint8:
        return (0, 3, 1, 2) if channels_last(size[1:]) else (0, 1, 2, 3)
    if len(size) == 3 and channels_last(size) and (box.dtype == np.uint8 or min(size[:2]) >= SMALLEST):
        return (2, 0, 1)
    return None


def channels_last(shape: Sequence[int]) -> bool:
    """Whether a picture of this shape is [H, W, C], not [C, H, W]: two equal sides are height and width; else there are fewer channels."""
    first, middle, last = shape
    if first != last and middle in (first, last):
        return middle == first
    return last < first


def bounds_of_picture(space: gym.spaces.Box) -> tuple[float, float] | None:
    """Between which values a picture must be; None where its type already sees to that, or it has no bounds."""
    if not picture(space) or not space.is_bounded():
        return None
    low, high = float(space.low.min()), float(space.high.max())
    if space.dtype.kind in "iu" and (low, high) == (np.iinfo(space.dtype).min, np.iinfo(space.dtype).max):
        return None
    return low - OVER * (high - low), high + OVER * (high - low)


def as_float32(space: gym.spaces.Box) -> gym.spaces.Box:
    """A float64 box as float32, others as they are: half the bytes to copy and to send, and the dtype of networks."""
    if space.dtype != np.float64:
        return space
    with np.errstate(over="ignore"):  # a bound beyond float32 becomes infinite
        return gym.spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)


def held(x: np.ndarray, dtype: Any) -> np.ndarray:
    """An array whose values a space of this type can hold; what rounds to a float is held.

    Raises:
        ValueError: a value would become another one.
    """
    if x.dtype == dtype or (x.dtype.kind in "biuf" and dtype.kind == "f") or np.can_cast(x.dtype, dtype, "safe"):
        return x
    with np.errstate(invalid="ignore"):
        cast = x.astype(dtype) if x.dtype.kind in "biuf" else None
    if cast is None or (cast != x).any():
        example = "" if cast is None else f" {x[cast != x].flat[0]:g}"
        raise ValueError(f"an observation of {x.dtype} in a space of {dtype}, which cannot hold{example or ' it'}")
    return cast


def check_holds(space: gym.Space, obs: Any) -> None:
    """Refuse what `gym.spaces.flatten` would cut in silence.

    Raises:
        ValueError: as `held`, of any part of the observation.
    """
    if isinstance(space, gym.spaces.Box):
        held(np.asarray(obs), space.dtype)
    elif isinstance(space, gym.spaces.Dict):
        for name, part in space.spaces.items():
            check_holds(part, obs[name])
    elif isinstance(space, gym.spaces.Tuple):
        for part, x in zip(space.spaces, obs, strict=True):
            check_holds(part, x)


def number(x: Any, what: str) -> Any:
    """A single number, also where it comes as an array of one.

    Args:
        what: 'reward', for the sentence.

    Raises:
        ValueError: it is an array of several, or of none.
    """
    if isinstance(x, int | float | np.generic) or np.ndim(x) == 0:
        return x
    if np.size(x) != 1:
        raise ValueError(f"a {what} of shape {np.shape(x)}, where one number is due")
    return np.asarray(x).item()
