"""Episodes of agents that are recorded to be looked at."""

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from ray_jobs.envs.rendering import watched
from ray_jobs.errors import UsageError
from ray_jobs.results import video
from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from ray_jobs.rl.rollout import recording
from ray_jobs.rl.rollout.runner import RunnerSpec, build_actor
from tests.ray_jobs.command import here


class Drawn(gym.Env):
    """Its frames show the step as their brightness; an episode has `length` steps with the rewards 1, 2, 3 ..."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  # as Gymnasium declares it

    def __init__(self, render_mode=None, length=5):
        self.render_mode, self.length = render_mode, length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1, np.float32), float(self.t), self.t == self.length, False, {}

    def render(self):
        return np.full((40, 60, 3), self.t, np.uint8)


class Blind(Drawn):
    """Takes no render_mode."""

    def __init__(self):
        super().__init__()


HERE = "tests.ray_jobs.rl.rollout.test_recording"


def recorded(env, episodes=2, explore=False, longest=100, **options):
    spec = RunnerSpec(PPO(width=8), env, 4, seed=0, env_options=options)
    made, _, _ = watched(env, options)
    actor = build_actor(spec.algorithm, made, False, 0)
    return recording.record(spec, actor, episodes, seed=1, explore=explore, longest=longest)


def test_an_episode_has_a_frame_for_each_step_with_the_return_up_to_it():
    first, second = recorded(f"{HERE}:Drawn")
    assert [frame.max() for frame in first.frames] == [0, 1, 2, 3, 4, 5]
    assert first.gained == [0, 1, 3, 6, 10, 15] and (first.total, first.steps, first.over) == (15, 5, True)
    assert first.fps == 10 and first.frames[0].shape == (200, 300, 3)  # enlarged
    assert second.gained == first.gained


def test_a_long_episode_keeps_few_frames_and_is_cut_where_it_must(monkeypatch):
    monkeypatch.setattr(recording, "MOST", 8)
    [episode] = recorded(f"{HERE}:Drawn", episodes=1, length=40, longest=30)
    shown = [int(frame.max()) for frame in episode.frames]
    assert shown == [0, 8, 16, 24, 30] and episode.gained == [t * (t + 1) / 2 for t in shown]
    assert (episode.steps, episode.over) == (30, False)


def test_seeds_decide_and_exploring_differs_from_playing_greedily():
    one, again, bold = recorded("CartPole-v1"), recorded("CartPole-v1"), recorded("CartPole-v1", explore=True)
    assert [e.gained for e in one] == [e.gained for e in again] != [e.gained for e in bold]
    assert all(
        np.array_equal(a, b) for e, f in zip(one, again, strict=True) for a, b in zip(e.frames, f.frames, strict=True)
    )
    assert not np.array_equal(one[0].frames[0], one[1].frames[0])


def test_where_nothing_is_drawn_observations_that_are_pictures_are_shown():
    with pytest.raises(ValueError, match="draws no frames: it takes no render_mode 'rgb_array'"):
        watched(f"{HERE}:Blind", {})
    pytest.importorskip("ale_py")
    env, frame, _ = watched("ALE/Pong-v5", {})
    obs = env.reset([0])
    for _ in range(4):
        obs = env.step(np.zeros(1, np.int64)).obs
    assert np.array_equal(frame(obs[0]), np.repeat(obs[0, -1][..., None], 3, 2)) and frame(obs[0]).max() > 0
    env.close()


def test_recordings_lie_side_by_side_and_the_shorter_one_waits(tmp_path):
    long, short = ([np.full((20, 30, 3), v, np.uint8) for v in values] for values in ((0, 100, 200), (50, 150)))
    pictures = list(video.tiled([(long, ["a"] * 3), (short, ["b"] * 2)]))
    middle = [[picture.getpixel((x, video.LINE + 10))[0] for x in (15, 45)] for picture in pictures]
    assert middle == [[0, 50], [100, 150], [200, 150]]
    path = video.write(pictures, 10.0, tmp_path / "v.gif")
    with Image.open(path) as gif:
        assert gif.size == (60, 38) and gif.n_frames >= 3 and gif.info["duration"] == 100 and gif.info["loop"] == 0
    pytest.importorskip("imageio_ffmpeg")
    assert video.write(pictures, 10.0, tmp_path / "v.mp4").read_bytes()[4:8] == b"ftyp"


def test_the_verb_records_and_the_report_shows(tmp_path):
    run = tmp_path / "run"
    here("train", "ppo_cartpole", "--steps", 2000, "--eval_episodes", 2, "--out", run, "-q")
    assert "episodes.gif" in here("sample", run, "--episodes", 2)
    here("report", run, "--out", tmp_path / "page.html")
    assert "data:image/gif;base64," in (tmp_path / "page.html").read_text()
    assert "takes --episodes, --stochastic" in here("sample", run, "--guidance", 2, code=2)
    assert "--episodes must be at least 1" in here("sample", run, "--episodes", 0, code=2)


def test_models_play_no_episodes():
    from ray_jobs.train.drawing import Drawing

    with pytest.raises(UsageError, match="plays no episodes: --episodes, --stochastic and --video are for agents"):
        Drawing(episodes=2).options(object(), 4)
