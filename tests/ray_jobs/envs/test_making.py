"""Environments by their names, here and in other processes."""

import gymnasium as gym
import pytest

from ray_jobs.envs.making import learn_of, newest, registered
from ray_jobs.envs.vector import vector
from ray_jobs.recipe.plan import Play
from ray_jobs.rl.learning import play
from tests.ray_jobs.rl.scripted import Count, Memory, Still

MODULE = '''"""Environments of a user."""
import gymnasium as gym
from tests.ray_jobs.rl.scripted import Count

class Endless(Count):
    def step(self, action):
        obs, reward, *_ = super().step(action)
        return obs, reward, False, False, {}

class Twice(Endless): ...
class Free(Endless): ...
'''
ENTRIES = (
    ("Mine/Endless-v0", ":Endless", 4),
    ("Mine/Endless-v2", ":Endless", 4),
    ("Mine/Endless-v10", ":Endless", 4),
    ("Mine/Twice-v0", ":Twice", 5),
    ("Mine/Twice-v1", ":Twice", 6),
)


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """The name of a module that registers environments when it is imported; they are unknown before and after."""
    before, name = dict(gym.registry), f"own_envs_{abs(hash(request.node.name))}"
    lines = [f'gym.register("{i}", entry_point="{name}{e}", max_episode_steps={n})' for i, e, n in ENTRIES]
    (tmp_path / f"{name}.py").write_text(MODULE + "\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    gym.registry.clear()
    gym.registry.update(before)


def length(env) -> int:
    """Steps to the end of the first episode."""
    env.reset([0])
    for n in range(1, 100):
        result = env.step([0])
        if result.boundary.any():
            assert result.truncated.all()
            return n
    return 0


@pytest.mark.parametrize("name", ["Mine/Endless-v0", "Mine/Endless", "Endless"])
def test_a_modules_own_environments_have_their_registered_time_limit(module, name):
    """By id, by id without its version, and by the class."""
    assert length(vector(f"{module}:{name}", 1, {})) == 4


def test_a_class_that_nobody_registered_has_none(module):
    assert length(vector(f"{module}:Free", 1, {})) == 0


def test_a_class_with_several_limits_is_refused(module):
    with pytest.raises(
        ValueError, match=r"several time limits.* Mine/Twice-v0 \(5 steps\), Mine/Twice-v1 \(6 steps\)\."
    ):
        vector(f"{module}:Twice", 1, {})
    with pytest.raises(ValueError, match=r"CartPole-v0 \(200 steps\), CartPole-v1 \(500 steps\)"):
        vector("gymnasium.envs.classic_control.cartpole:CartPoleEnv", 1, {})


def test_the_newest_version_is_the_largest_number(module):
    registered(f"{module}:Mine/Endless-v0")
    assert newest("Mine/Endless") == "Mine/Endless-v10"
    assert newest("Mine/Endless-v0") == "Mine/Endless-v0"
    assert newest("Mine/Nothing") == "Mine/Nothing"


@pytest.mark.parametrize("name", ["Mine/Nothing-v0", "Nothing"])
def test_what_a_module_does_not_have_is_told_in_one_sentence(module, name):
    with pytest.raises(
        ValueError, match=f"has no '{name}' and registers no such id.*package.module:function"
    ) as caught:
        vector(f"{module}:{name}", 1, {})
    assert "\n" not in str(caught.value)


def test_what_is_known_already_stays_as_it_is():
    mine = gym.envs.registration.EnvSpec("CartPole-v1", entry_point="nowhere:Env")
    learn_of(mine)
    learn_of(None)
    assert gym.registry["CartPole-v1"] is not mine


def test_what_the_driver_registered_is_known_to_runners(ray_cluster):
    """And to learners in rl/rollout: `test_a_stop_is_heard_...[2]`, and with their runners `test_two_learners_agree`."""
    gym.register("Own/Count-v0", entry_point=Count, max_episode_steps=4)
    try:
        plan = Play(Still(horizon=4), "Own/Count-v0", steps=32, envs=4, eval_episodes=2)
        result = play.play(plan, seed=0, run=Memory(), runners=2)
    finally:
        del gym.registry["Own/Count-v0"]
    assert result["env_steps"] >= 32
