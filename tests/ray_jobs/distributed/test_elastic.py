"""A group for which a cluster has not room enough begins with fewer workers, where it may, and takes the same steps."""

import contextlib

import pytest

from ray_jobs.distributed import elastic
from ray_jobs.distributed.connection import Lost
from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.train.launch import launch
from tests.ray_jobs.command import lines
from tests.ray_jobs.train.test_train import POINTS


@pytest.mark.parametrize(
    ("workers", "least", "rows", "allowed"),
    [
        (4, 0, 64, [4]),
        (4, 4, 64, [4]),
        (4, 2, 64, [4, 2]),
        (4, 2, 96, [4, 3, 2]),
        (4, 1, None, [4, 3, 2, 1]),
        (1, 0, 64, [1]),
    ],
)
def test_a_global_batch_is_shared_evenly(workers, least, rows, allowed):
    assert elastic.sizes(workers, least, rows) == allowed


@pytest.fixture()
def clock(monkeypatch):
    """Time that passes as it is slept away."""
    at = [100.0]
    monkeypatch.setattr(elastic.time, "monotonic", lambda: at[0])
    monkeypatch.setattr(elastic.time, "sleep", lambda seconds: at.__setitem__(0, at[0] + seconds))
    return at


def asked(allowed, *rooms, stop=lambda: False) -> tuple[int, list[str]]:
    """What `found` answers as the room changes, look by look; the last stays."""
    notes: list[dict] = []
    coming = [*rooms[:-1]]
    found = elastic.wait_for_room(allowed, lambda: coming.pop(0) if coming else rooms[-1], notes.append, stop)
    return found, [n["note"] for n in notes]


def test_all_begin_where_there_is_room_or_soon_will_be(clock):
    assert asked([4, 2], 9) == (4, [])
    assert asked([4, 2], 2, 2, 3, 4) == (4, [])
    assert clock[0] < 100 + elastic.WAIT


def test_fewer_begin_after_a_while_and_it_is_said(clock):
    assert asked([4, 2], 3) == (2, ["2 of 4 workers found place; training with 2"])
    assert asked([4, 3, 2], 3) == (3, ["3 of 4 workers found place; training with 3"])
    assert clock[0] >= 100 + 2 * elastic.WAIT


def test_too_few_are_waited_for_and_given_up(clock):
    assert asked([4, 2], *[1] * 100, 2)[0] == 2
    with pytest.raises(
        Lost, match=r"2 workers found no free CPUs on the cluster within 600 s: make room, and resume\."
    ):
        asked([4, 2], 1)


def test_who_waits_for_room_says_so_every_minute_and_hears_that_it_is_to_stop(clock):
    _, notes = asked([4, 2], 1, stop=lambda: clock[0] > 100 + 2.5 * elastic.PATIENCE)
    assert notes == ["the cluster has room for 1 workers, and at least 2 are needed: waiting"] * 2


@contextlib.contextmanager
def taken(ray, cores: int):
    """Another's work on the cluster, which holds so many cores."""
    from ray.util.placement_group import placement_group, remove_placement_group

    group = placement_group([{"CPU": 1}] * cores)
    ray.get(group.ready())
    try:
        yield
    finally:
        remove_placement_group(group)


def points(ray, out, workers: int, least: int, **settings) -> tuple[list[dict], list[str]]:
    """The metrics of a run and what was said, on a cluster of four cores."""
    notes: list[dict] = []
    where = Where(workers=workers, min_workers=least, address=ray.get_runtime_context().gcs_address)
    run = launch(Spec("ddpm_mixture2d", POINTS | settings, 1, where, str(out)), report=notes.append)
    return lines(run.path), [n["note"] for n in notes if "note" in n]


@pytest.mark.parametrize(
    ("free", "batch", "begin"),
    [(3, 64, 2), pytest.param(3, 96, 3, marks=pytest.mark.slow)],
    ids=["shared by two", "by three"],
)
def test_a_job_asked_for_four_begins_with_fewer_and_takes_the_same_steps(
    free, batch, begin, ray_cluster, tmp_path, monkeypatch
):
    monkeypatch.setattr(elastic, "WAIT", 1.0)
    with taken(ray_cluster, 4 - free):
        fewer, notes = points(ray_cluster, tmp_path / "fewer", 4, 2, batch=batch)
    alone = launch(
        Spec("ddpm_mixture2d", POINTS | {"batch": batch}, 1, Where(address="local"), str(tmp_path / "alone"))
    )
    assert f"{begin} of 4 workers found place; training with {begin}" in notes
    for a, b in zip(lines(alone.path), fewer, strict=True):
        assert a["step"] == b["step"] and a["loss"] == pytest.approx(b["loss"], rel=1e-4)


def test_fewer_than_the_fewest_are_refused_at_once(ray_cluster, tmp_path):
    with pytest.raises(UsageError, match=r"The cluster has \d+ CPUs in all, but 32 workers at least need one each"):
        points(ray_cluster, tmp_path / "run", 64, 32)
