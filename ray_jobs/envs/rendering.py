"""An environment that is watched: besides steps it gives frames, pictures of what happens."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ray_jobs.envs.failures import EnvironmentFailed
from ray_jobs.envs.making import maker, registered
from ray_jobs.envs.steps import VectorEnv
from ray_jobs.envs.vector import combined, vector

Frame = Callable[[np.ndarray], np.ndarray]
"""The picture [H, W, 3] uint8 of an environment, given its observation [*O]."""
HEADLESS = {"SDL_VIDEODRIVER": "dummy", "MUJOCO_GL": "egl"}
"""Variables with which pygame and MuJoCo draw without a screen."""
FPS = 30
"""Steps in a second of an environment that does not say how many."""


def watched(env: str, options: Mapping[str, Any]) -> tuple[VectorEnv, Frame, float]:
    """One environment, its frames, and its steps in a second.

    Gymnasium's and PettingZoo's environments draw frames where they are made with render_mode 'rgb_array'. Where an environment cannot,
    and its observations are pictures, the frames are what the agent sees.

    Raises:
        ValueError: it draws no frames; or as `envs.vector.vector`.
        EnvironmentFailed: as `envs.vector.vector`.
    """
    if not os.environ.get("DISPLAY"):
        for name, value in HEADLESS.items():
            os.environ.setdefault(name, value)
    plain = vector(env, 1, options)
    entry = registered(env)
    if entry is None or not str(entry.vector_entry_point).endswith("AtariVectorEnv"):
        try:
            one = maker(env, {**options, "render_mode": "rgb_array"})()
            made = combined(env, [one])
            made.reset([0])
            frame = one.render()
        except (TypeError, ImportError, NotImplementedError, ValueError, AttributeError):
            frame = None
        except Exception as error:  # a driver of OpenGL that is missing raises errors of many kinds
            raise EnvironmentFailed(
                f"The environment {env} could not draw a frame: {type(error).__name__}: {' '.join(str(error).split())}"
            ) from error
        if frame is not None and np.ndim(frame) == 3:
            plain.close()
            rate = getattr(one, "metadata", {}).get("render_fps") or FPS
            return made, lambda obs: np.asarray(one.render(), np.uint8)[..., :3], float(rate)
    if (seen := observed(plain.obs_space.shape)) is None:
        raise ValueError(f"The environment {env} draws no frames: it takes no render_mode 'rgb_array'.")
    return plain, seen, FPS / 2


def observed(shape: tuple[int, ...]) -> Frame | None:
    """Frames of observations that are pictures of this shape; None: they are none.

    Three planes are colours. Of others the last one is shown, which is the newest; planes of 0 and 1 are shown in greys of their own.
    """
    if len(shape) != 3:
        return None
    channels = int(np.argmin(shape))

    def frame(obs: np.ndarray) -> np.ndarray:
        planes = np.moveaxis(obs, channels, 0).astype(np.float64)
        if planes.max() <= 1:
            greys = np.ones(3) if len(planes) == 3 else np.linspace(0, 1, len(planes) + 1)[1:]
            planes = 255 * planes * greys[:, None, None]
            planes = planes if len(planes) == 3 else planes.max(0, keepdims=True)
        picture = planes if len(planes) == 3 else np.repeat(planes[-1:], 3, 0)
        return np.moveaxis(picture, 0, -1).clip(0, 255).astype(np.uint8)

    return frame
