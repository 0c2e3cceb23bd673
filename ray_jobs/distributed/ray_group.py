"""A group of workers under Ray Train, restarted when one of them dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray_jobs.distributed.connection import GONE, PATIENCE, START_LIMIT, Lost, cause
from ray_jobs.distributed.deaths import dead_workers
from ray_jobs.distributed.mailbox import mailbox
from ray_jobs.run.progress import Report


@dataclass(frozen=True)
class Group:
    """Workers that run the same function at once, through Ray Train."""

    work: Callable[[dict[str, Any]], None]
    """Function of a worker's configuration, in which 'mailbox' is its connection to the driver."""
    folder: str
    """Where Ray Train keeps its own files."""
    use_gpu: bool
    """Whether each takes a GPU, or else a CPU core."""
    on_event: Callable[[dict[str, Any]], None]
    """Gets each event of the workers."""
    report: Report
    should_stop: Callable[[], bool]

    def run_once(self, workers: int, config: Mapping[str, Any], *, patient: bool = True) -> Exception | None:
        """One attempt, from start to end; the error that ended it, if one did.

        Each attempt has its own mailbox, which ends with it. A worker that still runs then, for example on a node without network, cannot
        reach its driver and therefore stops writing (`run.fence`).

        Args:
            patient: whether to wait for CPUs as long as `supervise` does; else it ends after Ray's minute (`compat.failed_to_start`).
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
            return supervise(trainer, mail, self.on_event, self.report, self.should_stop)
        finally:
            ray.kill(mail)


def restart_on_failure(
    attempt: Callable[[], Exception | None], on_death: Callable[[Mapping[int, str], int], None], allowed: int
) -> Exception | None:
    """Start a group again when its workers die, `allowed` times; the error that ended the last attempt, if one did.

    Args:
        attempt: runs the group from start to end.
        on_death: called after each death with the causes by rank and the number of deaths. A node that is taken back does not count.
    """
    deaths = 0
    while causes := dead_workers(ended := attempt()):
        deaths += not hasattr(ended, "preemption_info")
        on_death(causes, deaths)
        if deaths > allowed:
            break
    return ended


def supervise(
    trainer: Any,
    mail: Any,
    on_event: Callable[[dict[str, Any]], None],
    report: Report,
    should_stop: Callable[[], bool],
) -> Exception | None:
    """Run a Ray Train trainer to its end and pass on every event of its workers; the error that ended it, if one did.

    The error is Lost where the workers find no free CPUs within START_LIMIT, and where the cluster is gone. A group that has no CPUs yet
    is left at once when `should_stop` says so.
    """
    import ray

    ended: list[Exception] = []
    thread = threading.Thread(target=_fit, args=(trainer, ended), daemon=True)
    thread.start()
    running, silent_since, waiting_since = True, time.monotonic(), time.monotonic()
    while running:
        thread.join(timeout=0.2)
        running = thread.is_alive()  # asked before the mail is fetched, so that no event is missed
        try:
            events = ray.get(mail.take.remote(should_stop()))
        except ray.exceptions.RayError as error:  # the mailbox is on this node
            return Lost(GONE.format(cause(error)))
        now = time.monotonic()
        if events:
            silent_since, waiting_since = now, float("inf")
        elif now - silent_since > PATIENCE:
            silent_since = now
            report({"note": f"no news of the workers for {PATIENCE:.0f} s: has the cluster room for them?"})
        for event in events:
            on_event(event)
        if running and waiting_since < now and should_stop():
            return None
        if running and now - waiting_since > START_LIMIT:
            ray.get(mail.take.remote(True))  # a worker that starts after all stops at once
            return Lost(
                f"The workers found no free CPUs on the cluster within {START_LIMIT:.0f} s: make room, and resume."
            )
    return ended[0] if ended else None


def _fit(trainer: Any, ended: list[Exception]) -> None:
    try:
        trainer.fit()
    except Exception as error:  # the driver's thread raises it
        ended.append(error)
