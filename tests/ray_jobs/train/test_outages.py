"""Storage at a remote address that fails for a while, and writers that were taken for dead: nothing is lost or written twice."""

import fsspec
import pytest
import torch
from fsspec.implementations.local import LocalFileSystem

from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run import mirror
from ray_jobs.run.folder import Run
from ray_jobs.run.mirror import Superseded, Unreachable
from ray_jobs.train.launch import launch, resume
from tests.ray_jobs.command import alike, equal, lines, newest

POINTS = {"steps": 40, "batch": 64, "width": 16, "levels": 25, "log_every": 5, "save_every": 10}
BALANCE = {"steps": 32768, "log_every": 2048, "save_every": 4096, "stop_return": 1000, "eval_episodes": 2}
SPECS = {"a generative model": ("ddpm_mixture2d", POINTS), "an agent": ("ppo_cartpole", BALANCE)}


class Flaky(LocalFileSystem):
    """Folders of this machine under flaky://, which nobody can use while it is `down`."""

    protocol = "flaky"
    cachable = False
    down = False

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("flaky://"))

    def exists(self, path, **more):
        self.answer()
        return super().exists(path, **more)

    def info(self, path, **more):
        self.answer()
        return super().info(path, **more)

    def _open(self, path, mode="rb", **more):
        self.answer()
        return super()._open(path, mode, **more)

    def put_file(self, source, target, **more):
        self.answer()
        return super().put_file(source, target, **more)

    def ls(self, path, detail=False, **more):
        self.answer()
        return super().ls(path, detail, **more)

    def answer(self) -> None:
        if Flaky.down:
            raise RuntimeError("503 Slow Down\nrequest 17")


@pytest.fixture()
def store(tmp_path, monkeypatch):
    """The address of a run folder, on storage that works; the local copy is the test's own."""
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr(Flaky, "down", False)
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "here"))
    (tmp_path / "store").mkdir()
    return f"flaky://{tmp_path}/store/run"


def spec(kind: str, out: object) -> Spec:
    recipe, settings = SPECS[kind]
    return Spec(recipe, settings, 1, Where(address="local"), str(out))


class Weather:
    """The storage fails from one step of a training to another; what the user is told meanwhile is kept."""

    def __init__(self, monkeypatch, first: int, last: float = float("inf")) -> None:
        self.notes: list[str] = []
        log = Run.log

        def logged(run, step, metrics):
            monkeypatch.setattr(Flaky, "down", first <= step < last)
            log(run, step, metrics)

        monkeypatch.setattr(Run, "log", logged)

    def report(self, event) -> None:
        self.notes += [event["note"]] if "note" in event else []


@pytest.mark.fault("storage", "the storage of a run's address fails for a while ({kind})")
@pytest.mark.parametrize("kind", SPECS)
def test_storage_that_fails_for_a_while_ends_nothing(kind, store, tmp_path, monkeypatch, fault):
    steps = SPECS[kind][1]["steps"]
    seen = Weather(monkeypatch, steps // 5, 3 * steps // 5)
    run = launch(spec(kind, store), report=seen.report)
    fault.saw(seen.notes, "cannot be used now.*503 Slow Down.*training continues")
    fault.saw(seen.notes, "can be used again: everything was sent")
    assert sum("503" in note for note in seen.notes) == 1, "it is said once"
    monkeypatch.undo()
    whole = launch(spec(kind, tmp_path / "whole"))
    there = tmp_path / "store/run"
    fault.equal(alike(there, whole.path))
    fault.lost(lines(whole.path)[-1]["step"] - lines(there)[-1]["step"], 0)
    assert sorted(p.name for p in (there / "checkpoints").iterdir()) == sorted(p.name for p in run.checkpoints())


@pytest.mark.fault("storage", "the storage of a run's address fails at its end, for longer than anybody waits")
def test_a_finished_run_that_its_address_cannot_take_is_sent_later(store, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(mirror, "PATIENCE", 1.0)
    seen = Weather(monkeypatch, 25)
    with pytest.raises(UsageError) as refusal:
        launch(spec("a generative model", store), report=seen.report)
    fault.saw(str(refusal.value), "could not be used for 1 s: the run is finished and lies in .*'reprise resume ")
    there = tmp_path / "store/run"
    assert not (there / "result.json").exists()
    monkeypatch.setattr(Flaky, "down", False)
    with pytest.raises(UsageError, match="is finished"):
        resume(store)
    whole = launch(spec("a generative model", tmp_path / "whole"))
    fault.lost(lines(whole.path)[-1]["step"] - lines(there)[-1]["step"], 0)
    fault.equal(alike(there, whole.path) and (there / "result.json").exists())


@pytest.mark.fault(
    "storage", "the storage of a run's address does not answer when a training begins, or is to continue"
)
def test_storage_that_does_not_answer_at_the_beginning_is_one_sentence(store, tmp_path, monkeypatch, fault):
    run = launch(spec("a generative model", store))
    monkeypatch.setattr(Flaky, "down", True)
    for begin in (lambda: launch(spec("a generative model", store)), lambda: resume(store)):
        with pytest.raises(Unreachable) as refusal:
            begin()
    fault.saw(str(refusal.value), r"cannot be used now \(RuntimeError: 503 Slow Down\)$")
    fault.lost(40 - lines(tmp_path / "store/run")[-1]["step"], 0)
    fault.equal(equal(newest(tmp_path / "store/run"), newest(run.path)))


def saved(run: Run, *steps: int) -> None:
    for step in steps:
        run.log(step, {"loss": step})
        run.save(step, {"w": torch.full((2,), float(step))})


def test_what_could_not_be_sent_is_continued_from(store, tmp_path, monkeypatch):
    """A process that was killed while the storage failed; the next one is on the same machine."""
    first = Run.create(spec("a generative model", store), kind="Fit")
    saved(first, 10)
    monkeypatch.setattr(Flaky, "down", True)
    saved(first, 20)
    first.release()
    monkeypatch.setattr(Flaky, "down", False)
    second = Run.open(store).lock()
    second.rewind(20)
    saved(second, 30)
    assert [m["step"] for m in second.metrics()] == [10, 20, 30]
    assert [m["step"] for m in Run(tmp_path / "store/run").metrics()] == [10, 20, 30]


def test_who_was_taken_for_dead_writes_no_more(store, tmp_path, monkeypatch):
    """Another machine has continued, from the step that it found; the first one's later steps are not mixed into its run."""
    first = Run.create(spec("a generative model", store), kind="Fit")
    saved(first, 10)
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "there"))
    second = Run.open(store).lock()
    second.rewind(10)
    with pytest.raises(
        Superseded, match=r"Another process has continued .* \(process \d+ on .*\): this one stops writing there\."
    ):
        saved(first, 20)
    saved(second, 15)
    with pytest.raises(Superseded):
        first.push()
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "here"))
    again = Run.open(store)
    assert [p.name for p in again.checkpoints()] == ["step-0000000015.ckpt", "step-0000000010.ckpt"]
    assert [m["step"] for m in again.metrics()] == [10, 15]


def test_a_reader_sends_what_it_made_and_nothing_older(store, tmp_path, monkeypatch):
    """As `reprise sample` does, while the training that it looks at continues."""
    training = Run.create(spec("a generative model", store), kind="Fit")
    saved(training, 10)
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "there"))
    reader = Run.open(store)
    saved(training, 20, 30)
    (reader.path / "samples.npy").write_bytes(b"1")
    reader.push()
    there = Run(tmp_path / "store/run")
    assert [p.name for p in there.checkpoints()] == ["step-0000000030.ckpt", "step-0000000020.ckpt"]
    assert [m["step"] for m in there.metrics()] == [10, 20, 30]
    assert (there.path / "samples.npy").exists()


def test_a_checkpoint_never_comes_before_its_metrics(store, tmp_path, monkeypatch):
    run = Run.create(spec("a generative model", store), kind="Fit")
    saved(run, 10)
    put = LocalFileSystem.put_file

    def dies(self, source, target, **more):
        put(self, source, target, **more)
        if target.endswith(".ckpt"):
            raise ConnectionError("reset")

    monkeypatch.setattr(Flaky, "put_file", dies)
    saved(run, 20)
    there = Run(tmp_path / "store/run")
    assert there.checkpoints()[0].name == "step-0000000020.ckpt"
    assert [m["step"] for m in there.metrics()] == [10, 20]
