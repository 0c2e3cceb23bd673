"""A group of workers seen through to its end, whatever becomes of it; what Ray says of deaths, in few words."""

import socket
import sys
import threading

import pytest

from ray_jobs.compat import failed_to_start
from ray_jobs.distributed import connection, head, ray_group
from ray_jobs.distributed.connection import Lost, cause
from ray_jobs.distributed.deaths import dead_workers, who_died
from ray_jobs.distributed.mailbox import Mailbox
from ray_jobs.distributed.ray_group import restart_on_failure, supervise
from ray_jobs.rl.learning.group import GroupDriver
from tests.ray_jobs.rl.scripted import Memory


class Handle:
    """A mailbox as Ray's actors are called: `mail.put.remote(...)`, in this process."""

    def __init__(self) -> None:
        self.box = Mailbox()

    def __getattr__(self, name):
        return type("Method", (), {"remote": staticmethod(getattr(self.box, name))})


class Trainer:
    """Does what it is told, then waits until the test is over."""

    def __init__(self, *events: dict, mail: Handle, ends: bool = False) -> None:
        self.events, self.mail, self.ends, self.over = events, mail, ends, threading.Event()

    def fit(self) -> None:
        for event in self.events:
            self.mail.put.remote(event)
        if not self.ends:
            self.over.wait(60)


@pytest.fixture()
def here(monkeypatch):
    """Ray's `get` of what was answered in this process."""
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    monkeypatch.setattr(ray_group, "PATIENCE", 0.3)


def seen_through(trainer: Trainer, should_stop=lambda: False) -> tuple[Exception | None, list[str], GroupDriver]:
    notes: list[dict] = []
    record = GroupDriver(Memory(), notes.append, 1, None)
    try:
        ended = supervise(trainer, trainer.mail, record.on_event, notes.append, should_stop)
    finally:
        trainer.over.set()
    return ended, [n["note"] for n in notes], record


def test_a_group_without_a_place_is_told_of_and_given_up(here, monkeypatch):
    monkeypatch.setattr(ray_group, "START_LIMIT", 0.7)
    trainer = Trainer(mail=Handle())
    ended, notes, _ = seen_through(trainer)
    assert isinstance(ended, Lost)
    assert str(ended) == "The workers found no free CPUs on the cluster within 1 s: make room, and resume."
    assert "has the cluster room for them?" in notes[-1]
    assert trainer.mail.box.stop, "who begins after all stops at once"


def test_a_group_that_works_without_a_word_is_not_given_up(here, monkeypatch):
    """It ends by itself when it has been asked ten times, long after that limit."""
    monkeypatch.setattr(ray_group, "START_LIMIT", 0.4)
    trainer, asked = Trainer({"begins": (0,)}, mail=Handle()), []

    def should_stop() -> bool:
        asked.append(True)
        if len(asked) == 10:
            trainer.over.set()
        return False

    ended, notes, _ = seen_through(trainer, should_stop)
    assert ended is None
    assert notes


def test_who_is_told_to_stop_does_not_wait_for_a_place(here):
    ended, _, record = seen_through(Trainer(mail=Handle()), lambda: True)
    assert ended is None and record.result is None


class Died(Exception):
    """As Ray Train says that workers have died."""

    def __init__(self, **failures: str) -> None:
        self.worker_failures = {int(rank[1:]): RuntimeError(said) for rank, said in failures.items()}


NODE, PROCESS = "The actor died because its node has died.", "The actor is dead because its worker process has died."
UNHEARD = "Connection closed by peer"


def lived(
    *lives: tuple[tuple[dict, ...], Exception | None], allowed: int = 1
) -> tuple[Exception | None, list[str], GroupDriver]:
    """A group that leaves these events and ends so, each time that it begins; each attempt has a mailbox of its own."""
    notes: list[dict] = []
    record, coming = GroupDriver(Memory(), notes.append, allowed, None), iter(lives)

    def attempt() -> Exception | None:
        events, ended = next(coming)
        mail = Handle()
        supervise(Trainer(*events, mail=mail, ends=True), mail, record.on_event, notes.append, lambda: False)
        return ended

    return restart_on_failure(attempt, record.on_death, allowed), [n["note"] for n in notes], record


def test_every_death_is_a_note_and_metrics_that_come_again_are_there_once(here):
    first = ({"begins": (0,)}, {"log": (8, {"x": 1})}, {"save": (8, {"y": 1})}, {"log": (16, {"x": 2})})
    again = ({"begins": (8,)}, {"log": (16, {"x": 3})})
    ended, notes, record = lived((first, Died(r0=UNHEARD, r1=PROCESS)), (again, None))
    assert ended is None
    assert notes == ["learner 1 died (its process ended); all learners continue from step 8 (death 1 of 1 allowed)"]
    assert record.run.lines == [(8, {"x": 1}), (16, {"x": 3})]
    assert (record.saved, record.state) == (8, {"y": 1}), "the group starts again from here"


def test_deaths_beyond_what_is_allowed_end_it_with_one_sentence(here):
    ended, notes, record = lived((({"save": (8, {})},), Died(r0=NODE)), ((), Died(r0=NODE)))
    assert len(notes) == 1
    said = "Learners died 2 times, more often than --max_failures allows; at last learner 0 died (its node is gone): "
    assert str(record.last_error(ended)) == said + "'reprise resume' continues from step 8."


def test_a_node_that_is_taken_back_is_no_death(here):
    taken = Died()
    taken.preemption_info = type("Info", (), {"preempted_ranks": [1]})
    ended, notes, _ = lived(((), taken), ((), taken), ((), Died(r0=NODE)), ((), None))
    assert ended is None
    assert notes[0].startswith("learner 1 died (its node was taken back)") and "death 0 of 1" in notes[0]
    assert "death 1 of 1" in notes[2]


def test_what_is_no_death_ends_a_group_at_once(here):
    ended, notes, _ = lived(((), ValueError("no")))
    assert isinstance(ended, ValueError) and not notes and not dead_workers(ended) and not failed_to_start(ended)


def test_a_full_disk_ends_no_group(here):
    class Full(Memory):
        def save(self, step, state):
            raise OSError(28, "No space left on device")

    notes: list[dict] = []
    record = GroupDriver(Full(), notes.append, 3, None)
    record.on_event({"save": (8, {})})
    assert "checkpoint of step 8 could not be written (No space left" in notes[0]["note"]
    assert record.saved == 8, "the group itself continues from it all the same"


@pytest.mark.parametrize(
    ("said", "brief"),
    [
        ("The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR", "its process ended"),
        ("The actor died because its node has died. Node Id: 66e9\n\tthe node was terminated", "its node is gone"),
        ("The actor 9a11 is unavailable: RpcError", connection.BROKEN),
        ("[pair.cc:553] Connection closed by peer [127.0.0.1]:924", connection.BROKEN),
        ("Task was killed due to the node running low on memory.", "its node ran out of memory"),
        ("No such\nthing. And more", "RuntimeError: No such thing"),
    ],
)
def test_causes_in_few_words(said, brief):
    assert cause(RuntimeError(said)) == brief


def test_survivors_do_not_stand_for_the_dead():
    assert who_died({0: connection.BROKEN, 1: "its node is gone"}, "learner") == "learner 1 died (its node is gone)"
    assert who_died({0: connection.BROKEN}, "learner") == "a learner died (learner 0 lost its connection)"


def test_a_head_that_is_gone_is_told_of_once_and_one_that_comes_back_is_not(monkeypatch):
    """A socket stands for the head, which closes, and opens again before anybody gives it up; then it closes for good."""
    monkeypatch.setattr(head, "HEAD_PAUSE", 0.02)
    monkeypatch.setattr(head, "HEAD_LIMIT", 3.0)
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    context = type("Context", (), {"gcs_address": f"127.0.0.1:{port}"})
    fake = type("Ray", (), {"is_initialized": lambda: True, "get_runtime_context": lambda: context})
    monkeypatch.setitem(sys.modules, "ray", fake)
    reasons, over = [], threading.Event()
    with head.head_watched(lambda why: (reasons.append(why), over.set())):
        server.close()
        server = socket.create_server(("127.0.0.1", port))
        server.settimeout(60)
        server.accept()[0].close()  # it was looked for, and is there
        assert reasons == []
        server.close()
        assert over.wait(60)
    assert reasons == [
        f"The head of the Ray cluster at 127.0.0.1:{port} has not answered for 3 s: it died, or is cut off from here."
    ]


def test_a_cluster_that_is_gone_is_one_sentence(here):
    ray = pytest.importorskip("ray")

    class Unheard(Handle):
        def __getattr__(self, name):
            def remote(*_):
                raise ray.exceptions.ActorUnavailableError("The actor is unavailable: RpcError: 14", None)

            return type("Method", (), {"remote": staticmethod(remote)})

    ended, _, _ = seen_through(Trainer(mail=Unheard()))
    assert isinstance(ended, Lost)
    assert str(ended) == connection.GONE.format(connection.BROKEN)
