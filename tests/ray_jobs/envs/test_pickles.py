"""What a checkpoint may hold of environments: what a run of ours saves comes back, what a stranger adds does not run."""

import collections
import datetime
import enum
import gc
import json
import os
import pathlib
import pickle
import random
import tempfile
import time
from dataclasses import dataclass, field
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import pytest

from ray_jobs.envs import env_state
from ray_jobs.envs.env_state import Untrusted, restored, saved
from ray_jobs.envs.vector import vector
from ray_jobs.errors import UsageError
from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from ray_jobs.rl.rollout.runner import EnvRunner, RunnerSpec
from tests.ray_jobs.envs.payloads import AtDeath, AtInit, AtNew, AtSetState, Call, payloads

with tempfile.TemporaryDirectory() as folder:
    NAMES = sorted(payloads(pathlib.Path(folder) / "mark", pathlib.Path(folder)))
ENVS = ["CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1", "Acrobot-v1"]
ENVS += ["ray_jobs.envs.lqr:make", "tests.ray_jobs.rl.scripted:Count", "tests.ray_jobs.envs.test_pickles:Arena"]


class Colour(enum.Enum):
    RED = 1


class Place(NamedTuple):
    x: float
    y: float


class Slotted:
    __slots__ = ("x",)

    def __init__(self):
        self.x = 1


@dataclass(frozen=True)
class Rules:
    gravity: float = 9.8
    colour: Colour = Colour.RED


@dataclass
class Player:
    place: Place
    seen: dict = field(default_factory=dict)
    friend: "Player | None" = None


class Arena(gym.Env):
    """A user's own environment, whose state is objects of its own classes that refer to each other."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.rules, self.slotted, self.t = Rules(), Slotted(), 0
        one, other = Player(Place(0.0, 1.0)), Player(Place(1.0, 0.0), {1: "a", (2, "b"): [1]})
        one.friend, other.friend = other, one
        self.players, self.past = [one, other], collections.deque(maxlen=3)
        self.old, self.plain = (
            np.random.RandomState(int(self.np_random.integers(1000))),
            random.Random(int(self.np_random.integers(1000))),
        )
        return self.look(), {}

    def look(self):
        return np.array([self.players[0].place.x, self.plain.random(), self.old.normal()], np.float32)

    def step(self, action):
        self.t += 1
        self.players[0].friend.friend.place = Place(self.np_random.normal() + sum(self.past), 0.0)
        self.past.append(float(action))
        return self.look(), 1.0, False, self.t == 7, {}


class Growing(Arena):
    """Makes objects of a class that it does not begin with."""

    def step(self, action):
        self.extra = collections.UserDict()
        return super().step(action)


class Odd(gym.Env):
    """A user's environment with objects that have a say in how they are restored."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.odd = [AtSetState(), AtNew("/dev/null"), AtInit("/dev/null")]
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """Where a payload leaves its mark; the modules that payloads import lie next to it."""
    (tmp_path / "modules").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "modules")
    return tmp_path / "mark"


def ran(mark, wait=0.0):
    """Whether a payload has run, or does so within `wait` seconds."""
    gc.collect()
    deadline = time.monotonic() + wait
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return mark.exists()


def runner(env="CartPole-v1", n=2):
    return EnvRunner(RunnerSpec(PPO(width=8), env, n, seed=5))


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("env", ENVS)
def test_ours_comes_back_and_continues_alike(env, n):
    one, other = vector(env, n, {}), vector(env, n, {})
    one.reset(range(n))
    actions = np.stack([one.action_space.sample() for _ in range(n)])
    for _ in range(3):
        one.step(actions)
    state = one.state()
    assert state is not None and state.startswith(b"{"), "plain data"
    other.reset(range(7, 7 + n))
    other.load(state)
    for _ in range(12):
        a, b = one.step(actions), other.step(actions)
        assert all(np.array_equal(x, y) for x, y in zip(a[:4], b[:4], strict=True))
        np.testing.assert_array_equal(one.restart(a.boundary), other.restart(b.boundary))
    again = saved(one.envs if hasattr(one, "envs") else one.env)
    assert again == saved(other.envs if hasattr(other, "envs") else other.env)


def test_plain_values_and_arrays_come_back():
    shared, loop = [1, float("nan"), -0.0], []
    loop.append(loop)
    mine = (np.arange(3.0), np.float32(2), {"a": [1, None]}, collections.deque([1], 4), shared, shared, {"loop": loop})
    mine += (np.asfortranarray(np.ones((2, 3))), np.zeros((0, 3)), np.array(["a"]), 1j, b"x", bytearray(b"y"), range(3))
    mine += (
        collections.defaultdict(list, a=[1]),
        collections.Counter("aab"),
        {1, 2},
        frozenset([(3,)]),
        2**200,
        "\ud800",
    )
    back = restored(saved(mine), mine)
    assert [type(x) for x in back] == [type(x) for x in mine]
    np.testing.assert_array_equal(back[0], mine[0])
    assert back[1:4] == mine[1:4] and back[3].maxlen == 4
    assert back[4] is back[5] and back[6]["loop"][0] is back[6]["loop"] and str(back[4]) == "[1, nan, -0.0]"
    assert back[7].flags.f_contiguous and not back[7].flags.c_contiguous and back[8].shape == (0, 3)
    assert back[9].tolist() == ["a"] and back[10:] == mine[10:]
    assert back[14].default_factory is list


@pytest.mark.parametrize("bits", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_generators_come_back_with_what_they_spawn(bits):
    mine = np.random.Generator(getattr(np.random, bits)(3))
    mine.integers(7, size=5, dtype=np.uint32)
    mine.spawn(2)
    back = restored(saved(mine), np.random.default_rng())
    assert back.random() == mine.random() and back.spawn(1)[0].random() == mine.spawn(1)[0].random()


@pytest.mark.parametrize("bits", ["MT19937", "Philox"])
def test_a_generator_does_not_read_beyond_its_block(bits):
    state = saved(np.random.Generator(getattr(np.random, bits)(3)))
    for wrong in (10**6, -5):
        data = json.loads(state)
        pair = next(p for n in data["nodes"] if n[0] == "dict" for p in n[1] if p[0] in ("pos", "buffer_pos"))
        pair[1] = wrong
        with pytest.raises(UsageError, match="cannot be read"):
            restored(json.dumps(data).encode(), np.random.default_rng())


@pytest.mark.parametrize("name", NAMES)
def test_the_payloads_are_real(name, mark):
    made = payloads(mark, mark.parent / "modules")[name]
    try:
        pickle.loads(made)
    except Exception as error:  # the rest of an effect may fail
        print(error)
    assert ran(mark, 5.0)


@pytest.mark.parametrize("name", NAMES)
def test_what_could_run_a_program_is_refused(name, mark):
    """In the place of the environments and of the runner's own state: new episodes begin."""
    made = payloads(mark, mark.parent / "modules")[name]
    with pytest.raises(Untrusted, match=r"which could run a program.*--trust"):
        restored(made, gym.make("CartPole-v1"))
    first = runner()
    for part in ("env", "runner"):
        second = runner()
        assert second.load(first.state() | {part: made}) is False
        second.play(second.actor.pack(), 0, 5)
    assert not ran(mark)


CLASSES = [AtSetState, AtInit, AtNew, AtDeath, Call, pathlib.Path, os.system, gym.make, exec, getattr, pickle.loads]


@pytest.mark.parametrize("odd", CLASSES, ids=lambda odd: odd.__qualname__)
@pytest.mark.parametrize("how", ["name", "object", "namedtuple", "enum", "defaultdict"])
def test_plain_data_names_nothing_that_the_environment_does_not_hold(odd, how, mark):
    first, second = runner(), runner()
    data = json.loads(first.state()["env"])
    named, at = f"{odd.__module__}:{odd.__qualname__}", len(data["nodes"])
    made = {
        "name": ["name", named],
        "object": ["object", [at + 1], [["mark", str(mark)]], []],
        "namedtuple": ["namedtuple", [at + 1], [str(mark)]],
        "enum": ["enum", [at + 1], "RED"],
        "defaultdict": ["defaultdict", [[1, 2]], [at + 1]],
    }
    data["nodes"] += [made[how], ["name", named]]
    env = next(node for node in data["nodes"] if node[0] == "object")
    env[2].append(["payload", [at]])
    assert second.load(first.state() | {"env": json.dumps(data).encode()}) is False
    assert not ran(mark)


@pytest.mark.parametrize("trust", [False, True])
def test_a_users_odd_classes_are_restored_only_with_trust(trust, mark, monkeypatch):
    monkeypatch.setenv(env_state.TRUST, str(int(trust)))
    first, second = runner("tests.ray_jobs.envs.test_pickles:Odd"), runner("tests.ray_jobs.envs.test_pickles:Odd")
    state = first.state()
    assert state["env"].startswith(b"\x80"), "a pickle"
    state["env"] = state["env"].replace(b"AtSetState", b"AtSetState")
    if not trust:
        assert second.load(state) is False
    data = json.loads(saved(first.mine()))
    data["nodes"] += [["name", "tests.ray_jobs.envs.payloads:AtSetState"], ["object", [len(data["nodes"])], [], []]]
    data["root"] = [len(data["nodes"]) - 1]
    with pytest.raises(Untrusted):
        restored(json.dumps(data).encode(), second.env.env.envs)


def test_objects_of_new_classes_are_restored_only_with_trust(monkeypatch):
    first, second = (
        runner("tests.ray_jobs.envs.test_pickles:Growing"),
        runner("tests.ray_jobs.envs.test_pickles:Growing"),
    )
    first.play(first.actor.pack(), 0, 3)
    state = first.state()
    assert second.load(state) is False
    monkeypatch.setenv(env_state.TRUST, "1")
    assert second.load(state) is True
    a, b = (r.play(first.actor.pack(), 0, 20) for r in (first, second))
    assert all(np.array_equal(x, y) for x, y in zip(a.steps, b.steps, strict=True))


@pytest.mark.parametrize("seed", range(60))
def test_damaged_plain_data_is_one_sentence(seed):
    """A value or a number of a node is another one, or is gone: the runner continues, begins new episodes, or says what is wrong."""
    rng, first, second = (
        random.Random(seed),
        runner("tests.ray_jobs.envs.test_pickles:Arena"),
        runner("tests.ray_jobs.envs.test_pickles:Arena"),
    )
    data = json.loads(first.state()["env"])
    node = rng.choice(data["nodes"])
    node[rng.randrange(len(node))] = rng.choice([None, -1, 10**9, "x", [0], [10**6], [[1]], {}, [], 1e300, True])
    said = ""
    try:
        second.load(first.state() | {"env": json.dumps(data).encode()})
    except UsageError as error:
        said = str(error)
    assert (not said or "environments" in said) and "\n" not in said


@pytest.mark.parametrize(
    "data", [b"{", b"{}", b'{"root": [0], "nodes": []}', b"{" + b"[" * 10**5, b'{"nodes": [[]], "root": 1}']
)
def test_what_is_no_plain_data_is_one_sentence(data):
    with pytest.raises(UsageError, match=r"environments (cannot be read|are not those)"):
        restored(data, gym.make("CartPole-v1"))


def test_trust_is_said_aloud(monkeypatch):
    state = pickle.dumps(Call(os.getpid))
    monkeypatch.setenv(env_state.TRUST, "1")
    assert restored(state, 0) == os.getpid()
    monkeypatch.setenv(env_state.TRUST, "0")
    with pytest.raises(Untrusted):
        restored(state, 0)


def test_what_this_training_wrote_may_be_anything(tmp_path):
    state = saved(Call(os.mkdir, str(tmp_path / "made")))
    with env_state.trusted(False), pytest.raises(Untrusted):
        restored(state, None)
    with env_state.trusted(True):
        restored(state, None)
    assert (tmp_path / "made").is_dir()
    with pytest.raises(Untrusted):
        restored(state, None)


def test_paths_and_dates_are_plain():
    mine = (pathlib.Path("a/b"), datetime.timedelta(3), datetime.datetime(2020, 1, 2), Place(1.0, 2.0), Colour.RED)
    assert restored(saved(mine), mine) == mine
