"""What the runtime relies on, for every file in `ray_jobs/rl/algorithms`: nobody has to list a new one here."""

import dataclasses
import importlib
import inspect
import pathlib
import pkgutil
import re

import gymnasium as gym
import numpy as np
import pytest
import torch

from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Play
from ray_jobs.rl import algorithms
from ray_jobs.rl.contract import Alone, Experience, reason_not_together
from ray_jobs.rl.learning import play, setup
from ray_jobs.rl.together.play import check_together
from ray_jobs.rl.together.seeds import Together

SPACES = {"discrete": gym.spaces.Discrete(3), "box": gym.spaces.Box(-2.0, 2.0, (2,), np.float32)}
OBS = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)


def found():
    """Every frozen dataclass with an `update`, with its module."""
    for m in pkgutil.walk_packages(algorithms.__path__, f"{algorithms.__name__}."):
        module = importlib.import_module(m.name)
        for cls in vars(module).values():
            if inspect.isclass(cls) and cls.__module__ == module.__name__ and hasattr(cls, "update"):
                yield pytest.param(module, cls, id=m.name.rpartition(".")[2])


every = pytest.mark.parametrize(("module", "cls"), list(found()))


def test_every_file_holds_one():
    """All files of the families, and nothing else; there were 20 when this was written."""
    files = {p.stem for f in algorithms.__path__ for p in pathlib.Path(f).rglob("*.py")} - {"__init__"}
    assert sorted(p.id for p in found()) == sorted(files)
    assert len(files) >= 20


@every
def test_it_is_small_and_says_where_it_comes_from(module, cls):
    source = inspect.getsource(module)
    assert "Source:" in module.__doc__
    assert len(source.splitlines()) <= 200
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen
    for f in dataclasses.fields(cls):
        assert re.search(rf'^    {f.name}: .* = .*\n    """', source, re.MULTILINE), (
            f"{f.name} lacks a docstring or default"
        )


def playable(cls):
    """An environment that the algorithm can act in."""
    try:
        cls().build(OBS, SPACES["discrete"])
    except ValueError:
        return "Pendulum-v1"
    return "CartPole-v1"


@every
def test_experience_is_of_a_known_kind(module, cls):
    assert isinstance(cls().experience, Experience)
    assert 0 < cls().gamma <= 1


@every
@pytest.mark.parametrize("kind", SPACES)
def test_actions_fit_the_space(module, cls, kind):
    """Drawn or greedy: shape and type of the space, extras per environment; or a space refused in one sentence."""
    space, rng = SPACES[kind], torch.Generator().manual_seed(0)
    try:
        agent = cls().build(OBS, space)
    except ValueError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert str(space) in refused
        return
    obs = torch.randn(5, 4, generator=rng)
    for explore in (True, False):
        with torch.no_grad():
            act = cls().act(agent, obs, explore=explore, rng=rng)
        assert act.action.shape == (5, *space.shape)
        assert act.action.dtype == (torch.int64 if kind == "discrete" else torch.float32)
        assert all(len(x) == 5 for x in act.extras.values())


REFUSED = [
    gym.spaces.Discrete(3, start=5),
    gym.spaces.MultiBinary(3),
    gym.spaces.Tuple((gym.spaces.Discrete(2),)),
    gym.spaces.Dict({"a": gym.spaces.Discrete(2)}),
]


@every
@pytest.mark.parametrize("space", REFUSED, ids=lambda s: type(s).__name__)
def test_a_space_that_nobody_handles_is_refused_in_one_sentence(module, cls, space):
    with pytest.raises(ValueError, match=re.escape(str(space))) as caught:
        cls().build(OBS, space)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@every
def test_a_greedy_action_is_no_matter_of_luck(module, cls):
    space = SPACES["discrete" if playable(cls) == "CartPole-v1" else "box"]
    agent, obs = cls().build(OBS, space), torch.randn(50, 4)
    with torch.no_grad():
        first, second = (
            cls().act(agent, obs, explore=False, rng=torch.Generator().manual_seed(s)).action for s in (1, 2)
        )
    assert torch.equal(first, second)


class Nothing:
    """A recorder that keeps the last state."""

    def log(self, step, metrics): ...

    def save(self, step, state):
        self.state = state


@every
def test_same_seed_same_result_and_every_weight_moves(module, cls):
    plan = Play(cls(), playable(cls), steps=3000, envs=4, eval_episodes=2)
    results, runs = [], [Nothing(), Nothing()]
    for run in runs:
        results.append(play.play(plan, seed=3, run=run))
        results[-1].pop("train_seconds")
    assert results[0] == results[1]
    untrained = setup.untrained(plan, 3)
    learned = runs[0].state["learners"][0]["learner"]["actor"]
    assert untrained.state_dict().keys() == learned.keys()
    still = [k for k, x in untrained.named_parameters() if torch.equal(x, learned[k])]
    fixed = {k for k, x in untrained.named_parameters() if not x.requires_grad and k.endswith("log_std")}
    assert set(still) <= fixed


@every
def test_it_says_itself_why_its_seeds_cannot_be_updated_together(module, cls):
    """A sentence where a trial with two seeds fails, and none where it works."""
    plan, reason = Play(cls(), playable(cls), steps=100, envs=4), reason_not_together(cls())
    try:
        check_together(plan)
        refused = ""
    except UsageError as error:
        refused = str(error)
    assert "a trial with two seeds failed" not in refused
    if reason:
        assert reason in refused
        trainings = [
            setup.prepare(plan, s, Alone(torch.Generator().manual_seed(s)), 0, Nothing(), print, bool, "cpu")
            for s in (0, 1)
        ]
        with pytest.raises((RuntimeError, ValueError, TypeError, AttributeError)):
            Together(trainings).trial()
