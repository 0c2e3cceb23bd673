"""An environment that raises or hangs stops a run in this process with one sentence, and on Ray its runner is replaced."""

import functools
import signal
import threading
import time

import gymnasium as gym
import numpy as np
import pytest

from ray_jobs.envs import failures
from ray_jobs.envs import vector as environments
from ray_jobs.envs.failures import EnvironmentFailed, TimedEnv
from ray_jobs.envs.vector import SequentialEnv, vector
from ray_jobs.errors import Failed, UsageError
from ray_jobs.recipe.plan import Play
from ray_jobs.recipe.spec import Spec
from ray_jobs.rl.learning import play
from ray_jobs.rl.rollout import pools
from ray_jobs.rl.rollout.runner import EnvRunner, RunnerSpec, evaluate
from ray_jobs.run.folder import Run
from ray_jobs.train.launch import launch
from tests.ray_jobs.rl.scripted import Hangs, Lost, Memory, Still

SCRIPTED = "tests.ray_jobs.rl.scripted:"


def runner(env: str, n: int = 1, **options) -> EnvRunner:
    return EnvRunner(RunnerSpec(Still(), SCRIPTED + env, n, seed=0, index=3, step_limit=0.05, env_options=options))


def sample(r: EnvRunner, T: int):
    return r.sample(r.actor.pack(), 0, T)


def test_an_error_in_a_step_names_environment_step_and_reason():
    r = runner("Raises")
    sample(r, 4)
    with pytest.raises(EnvironmentFailed) as caught:
        sample(r, 4)
    said = "The environment tests.ray_jobs.rl.scripted:Raises failed with KeyError: 'lost\\nthe key', at step 6 of runner 3."
    assert str(caught.value) == said
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_error_in_a_reset_too():
    with pytest.raises(EnvironmentFailed, match="Raises failed with OSError: no world left, at step 3 of runner 3"):
        sample(runner("Raises", what="reset"), 8)


def test_an_error_in_the_evaluation_says_so():
    r = runner("Raises")
    with pytest.raises(EnvironmentFailed, match="at step 6 of the evaluation"):
        evaluate(r.spec, r.actor, 4)


def test_a_run_in_this_process_stops_and_what_was_saved_is_kept():
    memory = Memory()
    plan = Play(Still(horizon=2), SCRIPTED + "Raises", steps=40, envs=1, save_every=2, eval_episodes=1)
    with pytest.raises(EnvironmentFailed, match="at step 6 of runner 0"):
        play.play(plan, seed=0, run=memory)
    assert [step for step, _ in memory.states] == [2, 4, 6]


RECIPE = """from ray_jobs.recipe import Headline, Play, Recipe


def plan() -> Play:
    from tests.ray_jobs.rl.scripted import Still

    return Play(Still(horizon=2), "tests.ray_jobs.rl.scripted:Raises")


options = {"steps": 40, "envs": 1, "save_every": 2}
raising = Recipe("An environment that raises.", plan, "S", Headline("Nobody"), "D", defaults=options)
"""


def test_a_run_folder_says_what_the_environment_did_and_keeps_its_checkpoints(tmp_path, monkeypatch):
    """The sentence comes first; the log has the trace into the environment's own code."""
    (tmp_path / "raisinglab").mkdir()
    (tmp_path / "raisinglab" / "raising.py").write_text(RECIPE)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        Failed, match=r"^The environment \S+:Raises failed with KeyError: .* at step 6 of runner 0\. \(.*log"
    ):
        launch(Spec("raisinglab.raising", out=str(tmp_path / "run")))
    run = Run.open(tmp_path / "run")
    assert run.read("status.json")["state"] == "failed"
    assert [int(c.stem.split("-")[1]) for c in run.checkpoints()] == [6, 4]
    assert 'raise KeyError("lost' in (run.path / "log.txt").read_text()


def test_a_step_that_hangs_is_interrupted():
    started = time.monotonic()
    with pytest.raises(EnvironmentFailed, match=r"Hangs did not answer within 0\.05 s, at step 3 of runner 3"):
        sample(runner("Hangs"), 8)
    assert time.monotonic() - started < 30


def test_steps_that_are_slow_together_do_not_hang():
    """Each step takes half the limit, all of them five times it."""
    env = TimedEnv(
        SequentialEnv([gym.wrappers.TransformReward(Hangs(), lambda r: time.sleep(0.05) or r)]), "slow", "runner 0"
    )
    env.reset([0])
    with env.within(0.1):
        for _ in range(10):
            env.step(np.array([0]))
            env.env.envs[0].unwrapped.t = 0  # or it would end, and hang in the next episode


def test_the_alarm_and_its_handler_are_given_back():
    """Somebody else's alarm, 100 s from now, is there again afterwards, less what has passed."""
    heard: list[int] = []
    env, before = (
        vector("CartPole-v1", 1, {}),
        signal.signal(signal.SIGALRM, lambda number, frame: heard.append(number)),
    )
    theirs, (left, interval) = signal.getsignal(signal.SIGALRM), signal.setitimer(signal.ITIMER_REAL, 100.0)
    try:
        for limit in (30.0, 0.01):
            with TimedEnv(env, "pole", "runner 0").within(limit):
                assert signal.getsignal(signal.SIGALRM) is not theirs
                assert signal.getitimer(signal.ITIMER_REAL)[0] <= 30
            assert signal.getsignal(signal.SIGALRM) is theirs
            assert 60 < signal.getitimer(signal.ITIMER_REAL)[0] <= 100
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left, interval)
    assert not heard


def test_beside_the_main_thread_there_is_no_alarm_and_all_continues():
    found = []
    thread = threading.Thread(target=lambda: found.append(sample(runner("Count"), 9).returns))
    thread.start()
    thread.join()
    assert found == [[6, 65]]


def test_on_ray_a_runner_whose_environment_failed_is_replaced(ray_cluster, tmp_path):
    once = {"mark": str(tmp_path / "failed")}
    plan = Play(Still(horizon=4), SCRIPTED + "Fickle", steps=64, envs=1, eval_episodes=1, env_options=once)
    result = play.play(plan, seed=0, run=Memory(), runners=1)
    assert (tmp_path / "failed").exists()
    assert result["runner_deaths"] == 1
    assert result["env_steps"] == 64


@pytest.mark.parametrize(("what", "says"), [("step", "KeyError.*step 6"), ("birth", "no world left, at step 0")])
def test_on_ray_an_environment_that_always_fails_is_given_up_with_its_sentence(what, says, ray_cluster, monkeypatch):
    monkeypatch.setattr(pools, "GIVE_UP", 2)
    hopeless = Play(Still(horizon=8), SCRIPTED + "Raises", steps=64, envs=1, env_options={"what": what})
    with pytest.raises(EnvironmentFailed, match=f"Raises failed with .*{says} of runner 0"):
        play.play(hopeless, seed=0, run=Memory(), runners=1)


def test_beside_the_main_thread_a_hang_is_told(monkeypatch):
    """As in a learner of a group, whose process then ends."""
    heard, r = [], runner("Hangs")
    reported = threading.Event()
    monkeypatch.setattr(failures, "on_hang", lambda error: (heard.append(str(error)), reported.set()))
    monkeypatch.setattr("tests.ray_jobs.rl.scripted.time.sleep", lambda seconds: reported.wait(60))
    thread = threading.Thread(target=sample, args=(r, 4))
    thread.start()
    thread.join()
    said = "The environment tests.ray_jobs.rl.scripted:Hangs did not answer within 0.05 s, at step 3 of runner 3."
    assert set(heard) == {said}


@pytest.mark.parametrize(
    ("what", "error", "says"),
    [
        ("hangs at birth", EnvironmentFailed, r"Odd was not made within 0\.05 s\."),
        ("raises at birth", EnvironmentFailed, r"Odd could not be made: RuntimeError: no licence\."),
        ("lacks a package", UsageError, r"Odd needs a package that is not installed: No module named 'physics'\."),
        ("hangs in its reset", EnvironmentFailed, r"Odd did not answer within 0\.05 s, at step 0 of runner 0\."),
        (
            "shows too little",
            EnvironmentFailed,
            r"an observation of shape \(1,\) in a space of shape \(2,\), at step 0",
        ),
        ("shows too much", EnvironmentFailed, r"an observation of shape \(3,\) in a space of shape \(2,\), at step 0"),
        (
            "is of the old kind",
            EnvironmentFailed,
            r"an observation of shape \(\) in a space of shape \(2,\), at step 0",
        ),
    ],
)
def test_what_is_odd_is_told_in_one_sentence(what, error, says, monkeypatch):
    monkeypatch.setattr(environments, "MAKE_LIMIT", 0.05)
    monkeypatch.setattr(RunnerSpec, "__init__", functools.partialmethod(RunnerSpec.__init__, step_limit=0.05))
    plan = Play(Still(), SCRIPTED + "Odd", steps=16, envs=1, env_options={"what": what})
    with pytest.raises(error, match=says) as caught:
        play.play(plan, seed=0, run=Memory())
    assert "\n" not in str(caught.value)


def test_an_action_that_is_not_finite_is_not_the_environments_fault():
    spec = RunnerSpec(Lost(), SCRIPTED + "Echo", 1, seed=0, index=3)
    with pytest.raises(
        FloatingPointError, match=r"^The policy's action is not finite, at step 1 of runner 3: try a smaller lr"
    ):
        sample(EnvRunner(spec), 8)
