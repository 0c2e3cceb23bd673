"""Atari 2600 games, stepped by ale-py's threads and restarted by the caller."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ray_jobs.envs.steps import StepResult

ENDLESS = 2**30
"""Frames after which ale-py may end an episode: never."""


class Atari:
    """B games; an observation is the newest 4 grey frames [4, 84, 84] uint8, oldest first, 0 where the episode has fewer.

    Source: Mnih et al. 2015, Nature 518, Methods (observations, noop starts); Machado et al. 2018, arXiv:1709.06009 (sticky
    actions with probability 0.25, whole games, the game's own scores).
    Differs: the first observations of an episode have empty frames; noop starts and sticky actions together; FIRE starts a game; the
    game's smallest set of actions and 108,000 frames at most, as ale-py's v5 games have them.
    """

    def __init__(
        self,
        n: int,
        *,
        game: str,
        frameskip: int = 4,
        repeat_action_probability: float = 0.25,
        full_action_space: bool = False,
        max_num_frames_per_episode: int = 108_000,
        noop_max: int = 30,
        use_fire_reset: bool = True,
        num_threads: int = 1,
        clip_reward: bool = True,
        episodic_life: bool = False,
    ) -> None:
        """Options have ale-py's names.

        Args:
            n: games.
            game: its name in snake_case.
            frameskip: frames for which an action is held; the observation is the brighter of the last two.
            repeat_action_probability: that a frame repeats the action of the frame before instead.
            full_action_space: all 18 actions, including those that do nothing in this game.
            max_num_frames_per_episode: frames after which an episode is truncated, those of its start not counted.
            noop_max: an episode begins after a random number of frames without an action, fewer than this.
            use_fire_reset: an episode begins with FIRE where the game has it.
            num_threads: C++ threads that step the games.
            clip_reward: rewards to learn from are clipped to -1 .. 1; reported returns are always the game's.
            episodic_life: a lost life terminates, and the game continues; reported returns are always of whole games.

        Raises:
            ValueError: a number is out of its range.
        """
        from ale_py.vector_env import AtariVectorEnv

        if min(frameskip, max_num_frames_per_episode, num_threads) < 1 or not 0 <= repeat_action_probability <= 1:
            raise ValueError(
                "An Atari game needs a frameskip, frames per episode and threads of 1 or more, and a probability from 0 to 1."
            )
        self.env = AtariVectorEnv(
            game,
            n,
            num_threads=num_threads,
            max_num_frames_per_episode=ENDLESS,  # its own truncation leaves the last frames out of the last observation
            repeat_action_probability=repeat_action_probability,
            full_action_space=full_action_space,
            frameskip=frameskip,
            noop_max=noop_max,
            use_fire_reset=use_fire_reset,
            reward_clipping=False,
        )
        self.obs_space, self.action_space = self.env.single_observation_space, self.env.single_action_space
        self.limit, self.clip, self.by_life = -(-max_num_frames_per_episode // frameskip), clip_reward, episodic_life
        self.steps, self.lives, self.over = np.zeros(n, int), np.zeros(n, int), np.zeros(n, bool)

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """As `VectorEnv.reset`."""
        self.steps[:] = 0
        self.obs, info = self.env.reset(seed=np.array(seeds))
        self.lives = info["lives"]
        return self.obs

    def step(self, action: np.ndarray) -> StepResult:
        """As `VectorEnv.step`."""
        self.obs, score, ended, _, info = self.env.step(action)
        self.steps += 1
        lost = (info["lives"] < self.lives) & self.by_life
        terminated, self.lives, self.over = ended | lost, info["lives"], ended | (self.steps >= self.limit)
        reward = score.clip(-1, 1) if self.clip else score
        return StepResult(self.obs, reward, terminated, self.over & ~terminated, score, self.over)

    def restart(self, rows: np.ndarray) -> np.ndarray:
        """As `VectorEnv.restart`; where only a life was lost, the game continues."""
        rows = rows & self.over
        if rows.any():
            self.steps[rows] = 0
            self.obs, info = self.env.reset(options={"reset_mask": rows})
            self.lives = info["lives"]
        return self.obs

    def state(self) -> None:
        """ale-py's games in threads cannot be saved."""
        return None

    def load(self, state: bytes) -> None:
        """As `VectorEnv.load`."""
        raise NotImplementedError("Atari games cannot be loaded, for they are never saved.")

    def close(self) -> None:
        """As `VectorEnv.close`."""
        self.env.close()
