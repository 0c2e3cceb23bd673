"""Train on a Ray cluster through Ray Train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ray_jobs.compat import failed_to_start
from ray_jobs.distributed import elastic
from ray_jobs.distributed.connection import cluster_address, connect
from ray_jobs.distributed.deaths import dead_workers, who_died
from ray_jobs.distributed.ray_group import Group, restart_on_failure
from ray_jobs.errors import Failed, UsageError
from ray_jobs.recipe.settings import known
from ray_jobs.recipe.spec import Spec
from ray_jobs.run.fence import Fenced
from ray_jobs.run.folder import Run
from ray_jobs.run.mirror import Superseded
from ray_jobs.run.progress import Report


def train(run: Run, spec: Spec, report: Report, should_stop: Callable[[], bool]) -> bool:
    """Train as a group of Ray Train, which restarts from the run's last checkpoint when a worker or its node dies."""
    ray = connect(cluster_address(spec.where.address))
    where, address = spec.where, str(run) if run.uri else str(run.path.resolve())
    need_gpu = where.accelerator == "gpu" or (where.accelerator == "auto" and ray.cluster_resources().get("GPU", 0) > 0)
    unit = "GPU" if need_gpu else "CPU"
    allowed = elastic.sizes(where.workers, where.min_workers, _parts(spec))
    _check_resources(ray, spec, unit, allowed[-1])
    said: dict[str, Any] = {}

    def hear(event: dict[str, Any]) -> None:
        said.update({k: event[k] for k in ("usage", "error", "outcome") if k in event})
        report(event)

    def attempt() -> Exception | None:
        while True:
            n = allowed[0]
            if len(allowed) > 1:
                n = elastic.wait_for_room(
                    allowed, lambda: int(ray.available_resources().get(unit, 0)), report, should_stop
                )
            ended = group.run_once(n, config, patient=len(allowed) == 1)
            if said.keys() & {"usage", "error"}:
                return None
            if not failed_to_start(ended):  # the free cores were taken meanwhile, or their node has just died
                return ended

    def died(causes: Mapping[int, str], deaths: int) -> None:
        said["died"] = f"{deaths} times; at last {who_died(causes, 'worker')}"
        if deaths <= where.max_failures:
            count = f"death {deaths} of {where.max_failures} allowed"
            report({"note": f"{who_died(causes, 'worker')}; the group continues from its last checkpoint ({count})"})

    config = {"run": address, "spec": asdict(spec)}
    group = Group(_cluster_worker, f"{address}/ray_train", need_gpu, hear, report, should_stop)
    run.push()
    try:
        ended = restart_on_failure(attempt, died, where.max_failures)
    finally:
        if "usage" not in said:  # else files from here would replace newer ones of the workers
            run.pull()
    if "usage" in said:
        raise UsageError(said["usage"])
    if "error" in said:
        raise Failed(said["error"])
    if dead_workers(ended):
        raise Failed(f"Workers died {said['died']}: 'reprise resume {run}' continues from the last checkpoint.")
    if ended:
        raise Failed(f"Ray Train gave up: {str(ended).strip().splitlines()[-1]}")
    return said.get("outcome") == "finished"


def _parts(spec: Spec) -> int | None:
    """Rows of a micro-batch, which workers share evenly; None where it is known only once the recipe is built."""
    full = {k: s.default for k, s in known(spec.recipe).items()} | dict(spec.settings)
    return full["batch"] // (full["accumulate"] or 1) if isinstance(full.get("batch"), int) else None


def _check_resources(ray: Any, spec: Spec, unit: str, least: int) -> None:
    there = ray.cluster_resources().get(unit, 0)
    if there < least:
        asked = f"--workers {spec.where.workers}" if least == spec.where.workers else f"{least} workers at least"
        raise UsageError(f"The cluster has {there:g} {unit}s in all, but {asked} need one each: take fewer workers.")


def _cluster_worker(config: dict[str, Any]) -> None:
    """Run one worker under Ray Train. A usage error is sent to the driver and ends the group; any other error restarts it."""
    import ray
    from ray.train import get_context
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    from ray_jobs.train.fit import fit

    mail, spec = config["mailbox"], Spec.of(config["spec"])
    first = get_context().get_world_rank() == 0

    def tell(event: dict[str, Any]) -> None:
        if first:
            ray.get(mail.put.remote(event))

    def stop_requested() -> bool:
        return ray.get(mail.should_stop.remote())

    run = Fenced.open(config["run"])
    run.ask = stop_requested
    placement = {
        "devices": "auto",
        "strategy": RayDDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True),
        "plugins": [RayLightningEnvironment()],
    }
    try:
        done = fit(run, spec, report=tell, placement=placement, should_stop=stop_requested)
        tell({"outcome": "finished" if done else "stopped"})
    except UsageError as error:
        tell({"usage": str(error)})
        if isinstance(error, Superseded):
            raise  # which ends the others, too
    except FloatingPointError as error:
        tell({"error": str(error)})
