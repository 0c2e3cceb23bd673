"""A group of workers under Ray Train, restarted when one of them dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray_jobs.distributed.connection import GONE, PATIENCE, START_LIMIT, Lost, cause
from ray_jobs.distributed.deaths import casualties
from ray_jobs.distributed.mailbox import mailbox
from ray_jobs.run.progress import Report


@dataclass(frozen=True)
class Group:
    """Workers that are to do the same at once, through Ray Train."""

    work: Callable[[dict[str, Any]], None]
    """What each does with its configuration, in which 'mailbox' is how it speaks with the driver."""
    folder: str
    """For Ray Train's own books."""
    use_gpu: bool
    """Whether each takes a GPU, or else a CPU core."""
    hear: Callable[[dict[str, Any]], None]
    """Gets each event that they leave."""
    report: Report
    should_stop: Callable[[], bool]

    def live(self, workers: int, config: Mapping[str, Any], *, patient: bool = True) -> Exception | None:
        """One life, from its beginning to its end; the error that ended it, if one did.

        It has a mailbox of its own, which ends with it. Who still works for it then, on a node that the cluster has lost sight of,
        is heard no more, and whoever asks before each write finds nobody to ask.

        Args:
            patient: whether to wait for places as long as `oversee` does, or to end as `compat.failed_to_start` after Ray's minute.
        """
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        once = FailureConfig(max_failures=0, max_preemption_failures=0, controller_failure_limit=-1 if patient else 0)
        each = None if self.use_gpu else {"CPU": 1}
        mail = mailbox(ray)
        trainer = TorchTrainer(
            self.work,
            train_loop_config={**config, "mailbox": mail},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=self.use_gpu, resources_per_worker=each),
            run_config=RunConfig(name="ray", storage_path=self.folder, failure_config=once),
        )
        try:
            return oversee(trainer, mail, self.hear, self.report, self.should_stop)
        finally:
            ray.kill(mail)


def outlive(
    life: Callable[[], Exception | None], died: Callable[[Mapping[int, str], int], None], allowed: int
) -> Exception | None:
    """Let a group begin anew as often as workers of it die, `allowed` times; the error that ended the last one, if one did.

    Args:
        life: the group from its beginning to its end.
        died: told of each death: why, by rank, and how many there were. A node that is taken back counts as none.
    """
    deaths = 0
    while causes := casualties(ended := life()):
        deaths += not hasattr(ended, "preemption_info")
        died(causes, deaths)
        if deaths > allowed:
            break
    return ended


def oversee(
    trainer: Any,
    mail: Any,
    hear: Callable[[dict[str, Any]], None],
    report: Report,
    should_stop: Callable[[], bool],
) -> Exception | None:
    """Run a Ray Train trainer to its end, hearing every event that its workers leave; the error that ended it, if one did.

    Nobody waits for ever for a group that finds no place: it is given up as Lost, and, where it is to stop, left. A cluster that is gone is
    Lost, too.
    """
    import ray

    ended: list[Exception] = []
    thread = threading.Thread(target=_fit, args=(trainer, ended), daemon=True)
    thread.start()
    running, silent_since, placeless_since = True, time.monotonic(), time.monotonic()
    while running:
        thread.join(timeout=0.2)
        running = thread.is_alive()  # asked before the mail is fetched, so that the last of it is heard
        try:
            events = ray.get(mail.take.remote(should_stop()))
        except ray.exceptions.RayError as error:  # the mailbox is on this node
            return Lost(GONE.format(cause(error)))
        now = time.monotonic()
        if events:
            silent_since, placeless_since = now, float("inf")
        elif now - silent_since > PATIENCE:
            silent_since = now
            report({"note": f"nothing heard of the workers for {PATIENCE:.0f} s: has the cluster room for them?"})
        for event in events:
            hear(event)
        if running and placeless_since < now and should_stop():
            return None
        if running and now - placeless_since > START_LIMIT:
            ray.get(mail.take.remote(True))  # whoever does find a place one day stops at once
            return Lost(f"The workers found no place on the cluster within {START_LIMIT:.0f} s: make room, and resume.")
    return ended[0] if ended else None


def _fit(trainer: Any, ended: list[Exception]) -> None:
    try:
        trainer.fit()
    except Exception as error:  # whatever ended Ray Train is told in the driver's thread
        ended.append(error)
