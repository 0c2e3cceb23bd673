"""Atari games are ALE's, step by step: no step only resets, a cut shows the true last frames, and returns are the game's own."""

import sys

import numpy as np
import pytest

from ray_jobs.envs.atari import Atari
from ray_jobs.envs.vector import vector
from ray_jobs.rl.rollout.runner import EnvRunner, RunnerSpec, evaluate
from tests.ray_jobs.rl.scripted import Chance

ale_py = pytest.importorskip("ale_py")


def areas(n: int, m: int) -> np.ndarray:
    """[m, n]: how much of each of n pixels each of m larger ones covers, in shares of the larger."""
    edges = np.arange(m + 1) * n / m
    return (
        np.clip(np.minimum(edges[1:, None], np.arange(n) + 1) - np.maximum(edges[:-1, None], np.arange(n)), 0, 1)
        * m
        / n
    )


class Slow:
    """One game by ALE's plainest interface: the definition, in as many words."""

    def __init__(self, game: str, seed: int, limit: int) -> None:
        self.ale, self.limit = ale_py.ALEInterface(), limit
        self.ale.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale.setFloat("repeat_action_probability", 0.25)
        self.ale.setInt("random_seed", seed)
        self.ale.loadROM(ale_py.roms.get_rom_path(game))
        self.actions = self.ale.getMinimalActionSet()

    def reset(self) -> np.ndarray:
        self.ale.reset_game()
        if ale_py.Action.FIRE in self.actions:
            self.ale.act(ale_py.Action.FIRE)
        self.frames, self.stack = 0, [np.zeros((84, 84))] * 4
        return self.see([self.ale.getScreenGrayscale()])

    def see(self, screens) -> np.ndarray:
        screen = np.max([s.reshape(210, 160) for s in screens], 0)
        self.stack = [*self.stack[1:], areas(210, 84) @ screen @ areas(160, 84).T]
        return np.stack(self.stack)

    def step(self, action: int):
        reward, screens = 0, []
        for _ in range(4):
            reward += self.ale.act(self.actions[action])
            screens.append(self.ale.getScreenGrayscale())
            self.frames += 1
            if self.ale.game_over():
                break
        ended = self.ale.game_over()
        return self.see(screens[-2:]), reward, ended, self.frames >= self.limit and not ended


@pytest.mark.parametrize(("game", "limit", "steps"), [("breakout", 800, 420), ("pong", 160, 100)])
def test_every_step_is_that_of_single_games(game, limit, steps):
    """Three games side by side; a row that is over is restarted, while the others continue."""
    seeds, rng = [11, 12, 13], np.random.default_rng(0)
    fast = Atari(3, game=game, noop_max=1, max_num_frames_per_episode=limit, clip_reward=False)
    slow = [Slow(game, s, limit) for s in seeds]
    obs, ends = fast.reset(seeds), np.zeros(2, int)
    assert fast.obs_space.contains(obs[0])
    assert np.abs(obs - np.stack([s.reset() for s in slow])).max() <= 0.51
    for _ in range(steps):
        action = rng.integers(0, fast.action_space.n, 3)
        moved = fast.step(action)
        for i, one in enumerate(slow):
            seen, reward, terminated, truncated = one.step(int(action[i]))
            assert (reward, terminated, truncated) == (moved.reward[i], moved.terminated[i], moved.truncated[i])
            if not terminated:  # nothing is asked of what is seen after the end
                assert np.abs(moved.obs[i] - seen).max() <= 0.51
        ends += [moved.terminated.sum(), moved.truncated.sum()]
        if moved.boundary.any():
            obs = fast.restart(moved.boundary)
            assert np.array_equal(obs[~moved.boundary], moved.obs[~moved.boundary])
            for i in np.flatnonzero(moved.boundary):
                assert np.abs(obs[i] - slow[i].reset()).max() <= 0.51
    assert ends[1] >= 3
    assert game == "pong" or ends[0] >= 1


def test_what_was_handed_out_stays_as_it_was():
    env = Atari(2, game="breakout")
    first = env.reset([1, 2])
    kept = first.copy()
    moved = env.step(np.array([0, 1]))
    env.step(np.array([1, 0]))
    env.restart(np.array([True, False]))
    assert np.array_equal(first, kept)
    assert not np.array_equal(moved.obs, kept)


def played(env: Atari, seeds, steps: int = 60) -> list[np.ndarray]:
    rng, seen = np.random.default_rng(1), [env.reset(seeds)]
    for _ in range(steps):
        moved = env.step(rng.integers(0, env.action_space.n, len(seeds)))
        seen.append(env.restart(moved.boundary) if moved.boundary.any() else moved.obs)
    return seen


def test_games_are_a_function_of_their_seeds_and_not_of_threads():
    options = {"game": "breakout", "max_num_frames_per_episode": 80}
    one, two, other = (
        played(Atari(3, **options, num_threads=threads), seeds)
        for threads, seeds in ((1, [5, 6, 7]), (2, [5, 6, 7]), (1, [5, 6, 8]))
    )
    assert all(map(np.array_equal, one, two))
    assert all(np.array_equal(a[:2], b[:2]) for a, b in zip(one, other, strict=True))
    assert not all(map(np.array_equal, one, other))


def test_episodes_begin_after_up_to_thirty_frames():
    """Two games started 40 times. FIRE is one frame, and 0 to 29 without an action are as likely: of the 29 sums, fewer than 20
    different ones in 80 starts have P < 1e-7."""
    env, both = Atari(2, game="breakout"), np.ones(2, bool)
    env.reset([1, 2])
    frames = [env.env.reset(options={"reset_mask": both})[1]["episode_frame_number"] for _ in range(40)]
    assert 1 <= np.min(frames) <= np.max(frames) <= 29
    assert len(np.unique(frames)) >= 20


def spec(game: str, n: int = 2, **options) -> RunnerSpec:
    return RunnerSpec(Chance(), f"ALE/{game}-v5", n, seed=3, env_options=options)


def test_reported_returns_are_the_games_and_rewards_to_learn_from_are_clipped():
    """Space Invaders pays 5 to 30 for a hit. The same seeds and actions without clipping tell what was earned."""
    clipped, plain = (
        EnvRunner(spec("SpaceInvaders", max_num_frames_per_episode=480, clip_reward=c)) for c in (True, False)
    )
    a, b = (r.sample(r.actor.pack(), 0, 250) for r in (clipped, plain))
    assert len(a.returns) >= 4
    assert a.returns == b.returns
    assert a.lengths == b.lengths
    assert b.steps[2].max() >= 5
    assert np.array_equal(a.steps[2], b.steps[2].clip(-1, 1))
    over = np.argwhere((b.steps[3] | b.steps[4])[:, 0]).ravel()
    assert b.steps[2][: over[0] + 1, 0].sum() in b.returns


def test_evaluation_reports_the_games_returns_too():
    options = {"max_num_frames_per_episode": 480, "clip_reward": True}
    r = EnvRunner(spec("SpaceInvaders", **options))
    clipped = evaluate(r.spec, r.actor, 2)
    assert np.array_equal(clipped, evaluate(spec("SpaceInvaders", **options | {"clip_reward": False}), r.actor, 2))
    assert clipped.max() >= 5


def test_a_lost_life_terminates_and_the_game_continues():
    """Same seeds and actions: the same games, frame by frame, and the same reports; more terminations for the learner."""
    lives, games = (EnvRunner(spec("Breakout", episodic_life=e)) for e in (True, False))
    a, b = (r.sample(r.actor.pack(), 0, 450) for r in (lives, games))
    assert np.array_equal(a.steps[0], b.steps[0])
    assert a.returns == b.returns
    assert a.lengths == b.lengths
    assert len(b.returns) >= 2
    assert b.steps[3].sum() == len(b.returns)
    assert 5 * b.steps[3].sum() <= a.steps[3].sum() <= 5 * (b.steps[3].sum() + 2)


def test_a_game_that_was_saved_midway_starts_again():
    first, second = (EnvRunner(spec("Pong")) for _ in range(2))
    first.sample(first.actor.pack(), 0, 3)
    assert second.load(first.state()) is False
    assert second.sample(second.actor.pack(), 0, 3).steps[0].shape == (4, 2, 4, 84, 84)


@pytest.mark.parametrize(
    ("env", "options", "says"),
    [
        ("ALE/Pnog-v5", {}, "did you mean ALE/Pong-v5"),
        ("ALE/Pong-v5", {"obs_type": "ram"}, "obs_type"),
        ("ALE/Pong-v5", {"frameskip": 0}, "frameskip"),
        ("ALE/Pong-v5", {"repeat_action_probability": 25}, "probability from 0 to 1"),
    ],
)
def test_a_wrong_game_or_option_gets_one_sentence(env, options, says):
    with pytest.raises(ValueError, match=says) as caught:
        vector(env, 1, options)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("package", "env", "extra"),
    [
        ("ale_py", "ALE/Pong-v5", "atari"),
        ("minatar", "MinAtar/Asterix-v1", "minatar"),
        ("mpe2", "mpe2.simple_v3:parallel_env", "mpe"),
    ],
)
def test_a_missing_package_names_the_extra(monkeypatch, package, env, extra):
    for name in [m for m in sys.modules if m == package or m.startswith(package + ".")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"pip install 'reprise\[{extra}\]'"):
        vector(env, 1, {})
