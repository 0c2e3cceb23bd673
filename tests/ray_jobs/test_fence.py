"""Who was cut off and comes back writes no more: at a remote address, and as a group whose driver has given it up."""

from pathlib import Path

import pytest

from ray_jobs import fence
from ray_jobs.fence import Fenced, Superseded
from ray_jobs.group import Failed
from ray_jobs.run import Run, Spec, Where
from ray_jobs.train import launch, resume
from tests.ray_jobs.command import lines

POINTS = {"steps": 40, "batch": 64, "width": 16, "levels": 25, "log_every": 5, "save_every": 10}


@pytest.fixture()
def address(tmp_path, monkeypatch) -> str:
    """A remote address, and as many machines as there are values of `REPRISE_CACHE`."""
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "here"))
    return f"file://{tmp_path}/store/run"


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(f.relative_to(folder)): (f.stat().st_size, f.stat().st_mtime_ns) for f in folder.rglob("*.*")}


def test_whoever_takes_a_remote_run_stops_whoever_had_it(address, tmp_path, monkeypatch):
    """Two machines, each with a copy and a lock of its own; the first learns of the second at its next checkpoint."""
    spec, store = Spec("ddpm_mixture2d", POINTS, 1, Where(address="local"), address), tmp_path / "store/run"
    found: list[dict] = []

    def elsewhere(event) -> None:
        if event.get("step", 0) > 20 and not found:
            with monkeypatch.context() as there:
                there.setenv("REPRISE_CACHE", str(tmp_path / "there"))
                Run.open(address).lock().release()
            found.append(contents(store))

    with pytest.raises(Failed, match=rf"Another process has gone on with {address} \(process \d+ on \S+, since \S+\): this"):
        launch(spec, report=elsewhere)
    assert found == [contents(store)], "it wrote after that"
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "there"))
    whole = launch(Spec("ddpm_mixture2d", POINTS, 1, Where(address="local"), str(tmp_path / "whole")))
    assert lines(resume(address).path) == lines(whole.path)


def test_a_mark_that_is_being_written_is_another_ones(address, tmp_path):
    mark = fence.claim(address)
    fence.check(address, mark)
    (tmp_path / "store/run" / fence.WRITER).write_text('{"mark"')
    with pytest.raises(Superseded, match="it has just begun"):
        fence.check(address, mark)
    (tmp_path / "store/run" / fence.WRITER).unlink()
    fence.check(address, mark)


WRITES = {
    "log": lambda run: run.log(1, {"loss": 1.0}),
    "status": lambda run: run.status("running", 1, 2),
    "save": lambda run: run.save(1, {}),
    "rewind": lambda run: run.rewind(0),
    "finish": lambda run: run.finish({"loss": 1.0}, step=1, device="cpu"),
    "push": lambda run: run.push(),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_group_asks_before_it_writes(name, tmp_path):
    """And nothing that a run has to write with is forgotten here."""

    def refuse() -> None:
        raise ConnectionError("nobody listens")

    run = Fenced(tmp_path)
    run.ask = refuse
    with pytest.raises(ConnectionError):
        WRITES[name](run)
    assert not list(tmp_path.iterdir())
    run.ask = lambda: None
    Run(tmp_path).status("running", 0, 0)
    (tmp_path / "run.json").write_text('{"recipe": "ddpm_mixture2d", "settings": {}, "seed": 0, "where": {}}')
    WRITES[name](run)
