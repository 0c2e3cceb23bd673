"""`reprise reproduce --together`, whole: killed, continued, and beside the same seeds alone."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.reproduce import aggregate, reproduce, seeds
from ray_jobs.reproduce.seeds import Seed, SeedGroup
from ray_jobs.run.folder import Run
from ray_jobs.train.launch import launch
from tests.faults import Fault

sys.path.insert(0, str(Path(__file__).parents[1]))
from command import here, lines, newest, reprise, start, wait_for

SETTINGS = {"steps": 2400, "width": 16, "save_every": 400, "log_every": 400, "eval_episodes": 4}
WORDS = ["--settings", json.dumps(SETTINGS)]


def close_to(a, b) -> bool:
    """Whether two checkpoints agree: tensors to rounding, all else but clocks and environments' bytes exactly."""
    if isinstance(a, torch.Tensor):
        return torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-5)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close_to(a[k], b[k]) for k in a if k not in ("seconds", "runners"))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(close_to, a, b))
    return a == b or (a != a and b != b)


@pytest.mark.fault("process", "the process of several seeds together is killed, and the reproduction is started again")
def test_seeds_together_are_killed_and_continue_to_what_they_reach_alone(tmp_path: Path, fault: Fault) -> None:
    words = ["reproduce", "dqn_cartpole", "--seeds", 3, "--together", 3, "--out", tmp_path, *WORDS]
    folders = [tmp_path / "dqn_cartpole" / f"seed-{i}" for i in range(3)]
    with start(*words) as process:
        wait_for(lambda: all(list((f / "checkpoints").glob("*.ckpt")) for f in folders), process)
        pids = {json.loads((f / "status.json").read_text())["pid"] for f in folders}
        os.kill(pids.pop(), signal.SIGKILL)
        assert not pids  # one process held them all
        process.communicate(timeout=100)
    assert not any((f / "result.json").exists() for f in folders)
    lost = [lines(f)[-1]["step"] - newest(f)["step"] for f in folders]
    reprise("resume", folders[0])  # one continues alone, by the single seed's command
    out = reprise(*words, code=1)
    fault.saw(out, "1 of 3 seeds finished earlier")
    fault.lost(max(0, *lost), SETTINGS["save_every"])
    for i, folder in enumerate(folders):
        alone = tmp_path / f"alone-{i}"
        launch(Spec("dqn_cartpole", SETTINGS, i, Where(address="local"), str(alone)))
        assert close_to(newest(alone), newest(folder))
        for a, b in zip(lines(alone), lines(folder), strict=True):
            assert a == pytest.approx(b, rel=1e-3)
        results = [Run.at(f).result["metrics"]["episode_return"] for f in (alone, folder)]
        assert results[0] == pytest.approx(results[1])
        assert f"{results[1]:.3g}"[:3] in here("evaluate", folder)
    fault.equal(True, "the same up to rounding, as several seeds together compute it")
    found = json.loads((tmp_path / "results" / "dqn_cartpole.json").read_text())
    assert found["seeds"] == [0, 1, 2] and "--together 3" in found["command"]


def test_an_interrupt_saves_every_seed(tmp_path: Path) -> None:
    words = ["reproduce", "dqn_cartpole", "--seeds", 2, "--together", 2, "--out", tmp_path]
    folders = [tmp_path / "dqn_cartpole" / f"seed-{i}" for i in range(2)]
    with start(*words) as process:
        wait_for(lambda: all(lines(f) for f in folders), process)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=100)
    assert "Stopped with 0 of 2 seeds finished" in out and "--together 2" in out
    assert [json.loads((f / "status.json").read_text())["state"] for f in folders] == ["stopped"] * 2
    steps = [newest(f)["step"] for f in folders]
    assert steps[0] == steps[1] == lines(folders[0])[-1]["step"]


def seed(tmp_path: Path, i: int, checkpoint: int | None, together: int = 2) -> Seed:
    folder = tmp_path / f"seed-{i}"
    (folder / "checkpoints").mkdir(parents=True)
    if checkpoint is not None:
        (folder / "checkpoints" / f"step-{checkpoint:010d}.ckpt").touch()
    return Seed("dqn_cartpole", i, str(folder), together=together)


def test_seeds_at_the_same_step_are_grouped(tmp_path: Path) -> None:
    at = [None, 800, None, 800, 800, 400, None]
    units = seeds.grouped([seed(tmp_path, i, step) for i, step in enumerate(at)])
    numbers = [[s.number for s in seeds.members(unit)] for unit in units]
    assert sorted(numbers) == [[0, 2], [1, 3], [4], [5], [6]]
    assert [isinstance(unit, SeedGroup) for unit in units] == [len(n) == 2 for n in numbers]


def test_what_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    mine, other = seed(tmp_path, 0, None), seed(tmp_path, 1, None)
    held = Run.at(other.folder).lock()
    assert seeds.grouped([mine, other]) == [other, mine]
    held.release()
    assert seeds.grouped([mine, other]) == [SeedGroup((mine, other))]


def test_without_together_nothing_is_grouped(tmp_path: Path) -> None:
    several = [seed(tmp_path, i, None, together=1) for i in range(3)]
    assert seeds.grouped(several) == several
    assert "--together" not in aggregate.retrace(several)


def test_a_group_is_one_command(tmp_path: Path) -> None:
    group = SeedGroup((seed(tmp_path, 3, None), seed(tmp_path, 5, None)))
    *_, name, records = seeds.command(group)
    assert name == "ray_jobs.reproduce.seeds_together"
    assert [Spec.of(x).seed for x in json.loads(records)] == [3, 5]
    assert [Spec.of(x).out for x in json.loads(records)] == [s.folder for s in group.seeds]


@pytest.mark.parametrize(
    ("recipe", "where", "why"),
    [
        ("trpo_cartpole", Where(), "TRPO cannot train seeds together here"),
        ("ddpm_digits", Where(), "--together is for agents"),
        ("dqn_cartpole", Where(runners=2), "leave --runners"),
        ("dqn_cartpole", Where(accelerator="gpu"), "leave --runners"),
    ],
)
def test_what_cannot_be_is_refused_before_a_folder_is_made(tmp_path: Path, recipe: str, where: Where, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        reproduce.plan(recipe, 2, {}, str(tmp_path), where, together=2)
    assert not list(tmp_path.iterdir())


def test_there_is_no_together_of_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--together must be at least 1, not 0"):
        reproduce.plan("dqn_cartpole", 2, {}, str(tmp_path), Where(), together=0)
