"""A group whose driver has given it up writes no more."""

import pytest

from ray_jobs.run.fence import Fenced
from ray_jobs.run.folder import Run

WRITES = {
    "log": lambda run: run.log(1, {"loss": 1.0}),
    "status": lambda run: run.status("running", 1, 2),
    "save": lambda run: run.save(1, {}),
    "keep": lambda run: run.keep("averages-0000000001", {}),
    "rewind": lambda run: run.rewind(0),
    "finish": lambda run: run.finish({"loss": 1.0}, step=1, device="cpu"),
    "push": lambda run: run.push(),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_group_asks_before_it_writes(name, tmp_path):
    def refuse() -> None:
        raise ConnectionError("nobody listens")

    (tmp_path / "run.json").write_text('{"recipe": "ddpm_mixture2d", "settings": {}, "seed": 0, "where": {}}')
    run = Fenced.open(tmp_path)
    run.ask = refuse
    with pytest.raises(ConnectionError):
        WRITES[name](run)
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]
    run.ask = lambda: None
    WRITES[name](run)
    assert name == "push" or len(list(tmp_path.iterdir())) > 1


def test_every_way_to_write_is_fenced():
    """A method of a run that writes to its folder, and is new, must be here, or in what those call."""
    reading = {
        "create",
        "at",
        "open",
        "exists",
        "lock",
        "release",
        "read",
        "metrics",
        "elapsed",
        "checkpoint",
        "checkpoints",
        "load",
        "latest",
        "trained",
        "pictures",
        "pull",
        "last",
        "step_of",
        "note",
    }
    public = {name for name, thing in vars(Run).items() if callable(getattr(Run, name)) and not name.startswith("_")}
    assert public - reading == set(WRITES) == {name for name in vars(Fenced) if not name.startswith("_")}
