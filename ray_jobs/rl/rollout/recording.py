"""Episodes that are recorded, frame by frame, to be looked at."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from ray_jobs.envs.failures import TimedEnv
from ray_jobs.envs.making import learn_of
from ray_jobs.envs.rendering import Frame, watched
from ray_jobs.rl.rollout.runner import ActingAgent, RunnerSpec, act, bounds

TALL = 320
"""Pixels of the longer side of a frame; smaller frames are enlarged by whole numbers."""
MOST = 750
"""Frames that are kept of an episode, an even number: of a longer one every second, every fourth and so on, which plays faster."""


class Episode(NamedTuple):
    """An episode to be looked at."""

    frames: list[np.ndarray]
    """[H, W, 3] uint8 each."""
    gained: list[float]
    """The return up to each frame."""
    steps: int
    """Of the whole episode."""
    over: bool
    """Whether it ended by itself; otherwise it was cut."""
    fps: float
    """Frames in a second."""

    @property
    def total(self) -> float:
        """The return."""
        return self.gained[-1]


@torch.inference_mode()
def record(
    spec: RunnerSpec, actor: ActingAgent, episodes: int, *, seed: int, explore: bool, longest: int
) -> list[Episode]:
    """Episodes on an environment made for them, each from its own seed.

    Args:
        seed: of the environments and of the policy, where it explores.
        explore: whether actions are drawn from the policy, as in training, or the best ones.
        longest: steps after which an episode is cut.

    Raises:
        ValueError: the environment draws no frames.
        EnvironmentFailed: it raised or hangs.
    """
    learn_of(spec.entry)
    made, frame, rate = watched(spec.env, spec.env_options)
    env, drawn = TimedEnv(made, spec.env, "the recording"), []
    for number in range(episodes):
        word, policy = np.random.SeedSequence(seed, spawn_key=(number,)).generate_state(2)
        rng = torch.Generator().manual_seed(int(policy))
        with env.within(spec.step_limit):
            drawn.append(_episode(spec, actor, env, frame, rate, int(word) & 0x7FFFFFFF, explore, longest, rng))
    env.close()
    return drawn


def _episode(
    spec: RunnerSpec,
    actor: ActingAgent,
    env: TimedEnv,
    frame: Frame,
    rate: float,
    seed: int,
    explore: bool,
    longest: int,
    rng: torch.Generator,
) -> Episode:
    obs, limits = env.reset([seed]), bounds(env.action_space)
    frames, gained, total, stride, steps, over = [sized(frame(obs[0]))], [0.0], 0.0, 1, 0, False
    while not over and steps < longest:
        action, _ = act(spec.algorithm, actor, obs, explore, rng)
        result = env.step(np.clip(action, *limits) if limits else action)
        obs, over, steps = result.obs, bool(result.over[0]), steps + 1
        total += float(result.gained[0])
        if steps % stride == 0 or over or steps == longest:
            frames.append(sized(frame(obs[0])))
            gained.append(total)
        if len(frames) > MOST:
            frames, gained, stride = frames[::2], gained[::2], 2 * stride
        if result.boundary[0] and not over:
            obs = env.restart(result.boundary)
    return Episode(frames, gained, steps, over, rate)


def sized(frame: np.ndarray) -> np.ndarray:
    """A frame [H, W, 3] whose longer side has about `TALL` pixels."""
    high, wide = frame.shape[:2]
    if (factor := TALL // max(high, wide)) > 1:
        return frame.repeat(factor, 0).repeat(factor, 1)
    if max(high, wide) <= TALL:
        return frame
    scale = TALL / max(high, wide)
    return np.asarray(Image.fromarray(frame).resize((round(wide * scale), round(high * scale)), Image.Resampling.BOX))
