"""Twenty runs of seven kinds are killed at moments drawn by a seed, and resumed: they end with the bits of runs never killed."""

import random
from itertools import chain
from pathlib import Path

import pytest

from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.folder import Run
from ray_jobs.train.launch import launch
from tests.ray_jobs.command import OURS, equal, here, lines, newest, start, wait_for
from tests.ray_jobs.train.test_train import STATE, agent, children, continued_from

MODEL = {"steps": 120, "batch": 64, "width": 16, "log_every": 5, "save_every": 35}
BALANCE = {"steps": 24576, "save_every": 4096, "log_every": 1024, "stop_return": 1000, "eval_episodes": 2}
RUNS = {
    "a model": ("maf_density2d", MODEL, Where()),
    "two networks": ("wgan_gp_grid", MODEL, Where()),
    "stages": ("pd_mixture2d", MODEL | {"steps": 180, "halvings": 2, "first": 4}, Where()),
    "two workers": ("vae_density2d", MODEL, Where(workers=2)),
    "an agent": ("dqn_cartpole", {"steps": 1600, "save_every": 320, "log_every": 80, "eval_episodes": 2}, Where()),
    "two runners": ("ppo_cartpole", BALANCE, Where(runners=2)),
    "a study": ("tests.ray_jobs.train.processes:walk", {"pause": 0.05}, Where()),
}
"""What is killed: a recipe, settings with which it is small, and where it runs."""
TIMES = {"a study": 3, "two workers": 3, "two runners": 3, "stages": 3, "an agent": 3, "two networks": 2, "a model": 3}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The finished run of each kind that was never killed."""
    made: dict[str, Run] = {}

    def of(kind: str) -> Run:
        if kind not in made:
            recipe, settings, where = RUNS[kind]
            made[kind] = launch(Spec(recipe, settings, 5, where, str(tmp_path_factory.mktemp("whole") / "run")))
        return made[kind]

    return of


def words(kind: str, out: Path) -> list[object]:
    """The command line that trains a kind."""
    recipe, settings, where = RUNS[kind]
    given = {f"--{name}": value for name, value in settings.items()}
    given |= {"--seed": 5, "--workers": where.workers, "--runners": where.runners, "--out": out}
    return ["train", recipe, *chain.from_iterable(given.items()), "-q"]


def state(run: Path) -> object:
    """What the newest checkpoint holds of the training; without clocks, which no two runs share."""
    found = newest(run)
    if "learners" in found:
        return agent(run)
    return {k: found[k] for k in STATE} if "state_dict" in found else found


@pytest.mark.slow
@pytest.mark.fault("process", "a run is killed at a random moment, and resumed ({kind})")
@pytest.mark.parametrize(("kind", "time"), [(kind, time) for kind, times in TIMES.items() for time in range(times)])
def test_a_run_that_is_killed_at_a_random_moment_ends_with_the_same_bits(
    kind, time, undisturbed, ray_cluster, tmp_path, capfd, fault
):
    whole, killed = undisturbed(kind), tmp_path / "killed"
    logged = lines(whole.path)
    moment = random.Random(f"{kind} {time}").randint(1, len(logged) * 3 // 4)
    with start(*words(kind, killed), env=OURS) as process:
        wait_for(lambda: len(lines(killed)) >= moment, process)
        process.kill()
    wait_for(lambda: not children(killed))
    at = lines(killed)[-1]["step"]
    assert at < logged[-1]["step"] and not (killed / "result.json").exists()
    saved = bool(list(killed.glob("checkpoints/*.ckpt")))
    capfd.readouterr()
    here("resume", killed)
    said = fault.saw(capfd.readouterr().out, "continuing from step" if saved else r": \d+/\d+ ")
    started = continued_from(said) if saved else 0
    fault.lost(max(0, at - started), RUNS[kind][1].get("save_every", 7) + logged[0]["step"])
    fault.equal(
        lines(killed) == logged and equal(state(killed), state(whole.path)) and measured(Run(killed)) == measured(whole)
    )


def measured(run: Run) -> dict[str, float]:
    """The result's metrics without times."""
    return {k: v for k, v in run.result["metrics"].items() if "seconds" not in k and "per_s" not in k}
