"""What a checkpoint may hold of environments: what a run of ours saves comes back, what a stranger adds does not run."""

import collections
import datetime
import operator
import os
import pathlib
import pickle
import subprocess

import gymnasium as gym
import numpy as np
import pytest

from ray_jobs.envs import env_state
from ray_jobs.envs.env_state import Untrusted, pickled, unpickled
from ray_jobs.envs.vector import vector


class Evil:
    """Pickles as a call."""

    def __init__(self, call, *arguments):
        self.call = call, arguments

    def __reduce__(self):
        return self.call


def nothing(*_):
    """A function of a package that is trusted with its classes."""


@pytest.mark.parametrize("env", ["CartPole-v1", "MountainCar-v0", "Pendulum-v1", "Acrobot-v1"])
def test_ours_comes_back_and_continues_alike(env):
    one, other = vector(env, 3, {}), vector(env, 3, {})
    one.reset([1, 2, 3])
    rows = np.array([True, False, True])
    actions = [one.action_space.sample() for _ in range(3)]
    state = one.state()
    assert state is not None
    other.reset([7, 8, 9])
    other.load(state)
    for e in (one, other):
        e.moved = e.step(np.stack(actions)).obs, e.restart(rows)
    for a, b in zip(one.moved, other.moved, strict=True):
        np.testing.assert_array_equal(a, b)


def test_plain_values_and_arrays_come_back():
    mine = (np.arange(3.0), np.float32(2), {"a": [1, None]}, collections.deque([1]), np.random.default_rng(3))
    back = unpickled(pickled(mine))
    np.testing.assert_array_equal(back[0], mine[0])
    assert back[1:4] == mine[1:4]
    assert back[4].random() == np.random.default_rng(3).random()


@pytest.mark.parametrize(
    "evil",
    [
        Evil(os.system, "touch pwned"),
        Evil(subprocess.Popen, ["touch", "pwned"]),
        Evil(eval, "open('pwned', 'w')"),
        Evil(operator.attrgetter, "system"),
        Evil(np.load, "pwned", None, True),
        Evil(gym.make, "os:x"),
        Evil(nothing),
        Evil(pickle.loads, b"."),
    ],
    ids=lambda evil: evil.call[0].__name__,
)
def test_what_could_run_a_program_is_refused(evil, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = gym.make("CartPole-v1")
    with pytest.raises(Untrusted, match=r"which could run a program.*--trust"):
        unpickled(pickle.dumps((env, evil)), env)
    assert list(tmp_path.iterdir()) == []


def test_a_name_with_dots_reaches_no_further():
    """Protocol 4 looks up 'a.b' attribute by attribute, out of the package by what it has imported."""
    sneaky = b"\x80\x04\x8c\x14gymnasium.envs.toy_text\x8c\x02os\x93."
    inner = (
        pickle.SHORT_BINUNICODE + bytes([9]) + b"gymnasium" + pickle.SHORT_BINUNICODE + bytes([13]) + b"logger.warnin"
    )
    for code in (b"\x80\x04" + inner + b"\x93.", sneaky):
        with pytest.raises((Untrusted, pickle.UnpicklingError)):
            unpickled(code)


def test_trust_is_said_aloud(monkeypatch):
    state = pickle.dumps(Evil(nothing))
    monkeypatch.setenv(env_state.TRUST, "1")
    assert unpickled(state) is None
    monkeypatch.setenv(env_state.TRUST, "0")
    with pytest.raises(Untrusted):
        unpickled(state)


def test_what_this_training_wrote_may_be_anything(tmp_path):
    state = pickled(Evil(os.mkdir, str(tmp_path / "made")))
    with env_state.trusted(False), pytest.raises(Untrusted):
        unpickled(state)
    with env_state.trusted(True):
        unpickled(state)
    assert (tmp_path / "made").is_dir()
    with pytest.raises(Untrusted):
        unpickled(state)


def test_paths_and_dates_are_plain():
    mine = (pathlib.Path("a/b"), datetime.timedelta(3))
    assert unpickled(pickled(mine)) == mine
