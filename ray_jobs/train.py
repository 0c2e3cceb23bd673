"""Train a recipe: make the run folder, choose where it runs, see it through to its result or to a checkpoint to go on from."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

from ray_jobs.group import Failed
from ray_jobs.group import train as on_this_machine
from ray_jobs.progress import Report, noise_to, silent
from ray_jobs.recipe import Fit, UsageError, kind
from ray_jobs.run import Run, Spec
from ray_jobs.settings import check

PATIENCE = 60.0
"""Seconds without a word of a cluster's workers, after which the user is told so."""


class Stopped(Exception):
    """The run was told to stop, and has saved what it needs to go on."""

    def __init__(self, run: Run, number: int) -> None:
        self.run, self.signal = run, number
        super().__init__(f"Stopped. Everything is saved; go on with: reprise resume {run}")


def launch(spec: Spec, *, report: Report = silent, command: list[str] | None = None) -> Run:
    """Train `spec` in a new run folder, to the end.

    Returns:
        the finished run; `run.result` has its metrics.

    Raises:
        UsageError: the spec cannot be, before anything starts.
        Stopped: a signal ended it; it can be resumed.
        Failed: it cannot go on; the status and the log say why.
    """
    settings = check(spec.recipe, spec.settings, spec.where)
    spec = replace(spec, settings=settings)
    run = Run.create(spec, kind=kind(spec.recipe).__name__, command=command)
    return see_through(run, spec, report)


def resume(location: str, *, report: Report = silent) -> Run:
    """Go on with the run at `location` from its newest checkpoint, bit for bit as if it had never stopped.

    Raises:
        UsageError: there is no run, it is finished, or another process is at work in it.
        Stopped, Failed: as for `launch`.
    """
    run = Run.open(location)
    if run.result:
        raise UsageError(f"{run} is finished: there is nothing to resume. 'reprise evaluate {run}' measures it again.")
    return see_through(run.lock(), run.spec, report)


def see_through(run: Run, spec: Spec, report: Report, told_to_stop: Callable[[], bool] = lambda: False) -> Run:
    """Train in an open, locked run folder until it is finished; leave its status true however this ends.

    Args:
        told_to_stop: asked as training goes, beside the signals; once True, the run is saved and stopped.
    """
    steps = spec.settings.get("steps", 0)
    at = max((m["step"] for m in run.metrics()), default=0)
    state = "failed"
    run.status("running", at, steps)
    try:
        with stopping() as stop, noise_to(run.path / "log.txt"):
            done = _train(run, spec, report, lambda: stop.is_set() or told_to_stop())
        for note in run.notes:
            report({"note": note})
        if not done:
            state = "stopped"
            raise Stopped(run, stop.number)
        state = "finished"
        return run
    except (UsageError, Failed, Stopped, KeyboardInterrupt):
        raise
    except (FloatingPointError, OSError) as error:
        raise Failed(str(error)) from error
    except Exception as error:
        with open(run.path / "log.txt", "a") as log:
            traceback.print_exc(file=log)
        first = (str(error).strip() or "no message").splitlines()[0]
        raise Failed(f"{type(error).__name__}: {first} ({run.path / 'log.txt'} has the whole trace.)") from error
    finally:
        if state != "finished":
            step = max((m["step"] for m in run.metrics()), default=0)
            with contextlib.suppress(OSError):
                run.status(state, step, (run.read("status.json") or {}).get("steps", steps))
                run.push()
        run.release()


class Stop(threading.Event):
    """Set by SIGINT or SIGTERM; `number` says by which."""

    number: int = signal.SIGINT


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM into a wish to stop; a second SIGINT interrupts at once. No-op off the main thread."""
    stop = Stop()

    def wish(number: int, _: Any) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.number = number
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {n: signal.signal(n, wish) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def cluster_address(spec: Spec) -> str | None:
    """The Ray cluster to train on: --address, else RAY_ADDRESS; 'local' names this machine in spite of RAY_ADDRESS."""
    address = spec.where.address or os.environ.get("RAY_ADDRESS")
    return None if address == "local" else address


def _train(run: Run, spec: Spec, report: Report, should_stop: Callable[[], bool]) -> bool:
    if kind(spec.recipe) is not Fit:
        return _play(run, spec, report, should_stop)
    if cluster_address(spec):
        return _on_cluster(run, spec, report, should_stop)
    if spec.where.workers > 1:
        return on_this_machine(run, spec, report, should_stop)
    from ray_jobs.fit import fit

    return fit(run, spec, report=report, should_stop=should_stop)


def _play(run: Run, spec: Spec, report: Report, should_stop: Callable[[], bool]) -> bool:
    import torch

    from ray_jobs.pictures import learning_curve
    from ray_jobs.rl.runtime import play
    from ray_jobs.settings import build

    torch.set_num_threads(spec.where.threads)
    device = "cuda" if spec.where.accelerator == "gpu" else "cpu"  # small networks are faster on the CPU
    try:
        made = build(spec.recipe, spec.settings)
    except ValueError as error:
        raise UsageError(str(error)) from error
    address = cluster_address(spec)
    if address and (spec.where.runners or spec.where.learners > 1):
        connect(address)
    state = run.latest()
    run.rewind(state["step"] if state else 0)
    if state:
        report({"note": f"going on from step {state['step']}"})
    metrics = play(
        made,
        seed=spec.seed,
        runners=spec.where.runners,
        learners=spec.where.learners,
        run=run,
        report=report,
        address=spec.where.address,
        resume=state,
        should_stop=should_stop,
        device=device,
    )
    if "episode_return" not in metrics:  # only a training that was stopped ends without an evaluation
        return False
    step = int(metrics["env_steps"])
    if not any(p.stem.endswith(f"{step:010d}") for p in run.checkpoints()[:1]):
        raise OSError(f"The last checkpoint could not be written to {run}: make room, then 'reprise resume {run}'.")
    learning_curve(run)
    run.finish(metrics, step=step, device=device)
    return True


def connect(address: str) -> Any:
    """Ray, connected to the cluster at `address`, which gets the packages that are running here.

    Raises:
        UsageError: no cluster answers there.
    """
    import socket

    import ray

    if ray.is_initialized():
        return ray
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            raise UsageError(
                f"No Ray cluster answers at {address} ({error}): is it up, and is the port 6379's?"
            ) from None
    try:
        handler = signal.getsignal(signal.SIGTERM)
        ray.init(address=address, runtime_env=_packages(), log_to_driver=False, logging_level="ERROR")
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray's own would end the process before it has saved
    except ConnectionError as error:
        raise UsageError(
            f"No Ray cluster answers at {address} ({str(error).splitlines()[0]}): start one, leave --address out, "
            "or, where it asks for a token, export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH."
        ) from None
    return ray


def _packages() -> dict[str, Any]:
    """The runtime environment that ships our packages; nothing inside a Ray job, whose working directory has them already."""
    from pathlib import Path

    root = Path(__file__).parent.parent
    if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        return {}
    return {"py_modules": [str(root / p) for p in ("ray_jobs", "lightning_modules", "datamodules", "cluster")]}


class Mailbox:
    """Where the first worker on a cluster leaves its events, and finds the driver's wish to stop."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.stop = False

    def put(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def take(self, stop: bool) -> list[dict[str, Any]]:
        self.stop = stop
        events, self.events = self.events, []
        return events

    def told_to_stop(self) -> bool:
        return self.stop


def _on_cluster(run: Run, spec: Spec, report: Report, should_stop: Callable[[], bool]) -> bool:
    """Through Ray Train: a group that restarts from the run's last checkpoint when a worker or its node dies."""
    ray = connect(str(cluster_address(spec)))
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    need_gpu = spec.where.accelerator == "gpu" or (
        spec.where.accelerator == "auto" and ray.cluster_resources().get("GPU", 0) > 0
    )
    _check_resources(ray, spec, need_gpu)
    mailbox = ray.remote(num_cpus=0)(Mailbox).remote()
    config = {"run": str(run) if run.uri else str(run.path.resolve()), "spec": asdict(spec), "mailbox": mailbox}
    run.push()
    trainer = TorchTrainer(
        _cluster_worker,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=spec.where.workers, use_gpu=need_gpu, resources_per_worker=None if need_gpu else {"CPU": 1}
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=f"{run.uri}/ray_train" if run.uri else str((run.path / "ray_train").resolve()),
            failure_config=FailureConfig(max_failures=spec.where.max_failures),
        ),
    )
    ended: dict[str, Any] = {}
    thread = threading.Thread(target=_fit_trainer, args=(trainer, ended), daemon=True)
    thread.start()
    said: dict[str, Any] = {}
    silent_since = time.monotonic()
    while thread.is_alive() or not said.get("drained"):
        thread.join(timeout=0.3)
        said["drained"] = not thread.is_alive()
        events = ray.get(mailbox.take.remote(should_stop()))
        if events:
            silent_since = time.monotonic()
        elif time.monotonic() - silent_since > PATIENCE:
            silent_since = time.monotonic()
            report({"note": f"nothing heard of the workers for {PATIENCE:.0f} s: has the cluster room for them?"})
        for event in events:
            said.update({k: event[k] for k in ("usage", "error", "outcome") if k in event})
            report(event)
    if run.uri:
        run.pull()
    if "usage" in said:
        raise UsageError(said["usage"])
    if "error" in said or "error" in ended:
        raise Failed(said.get("error") or f"Ray Train gave up: {str(ended['error']).strip().splitlines()[-1]}")
    return said.get("outcome") == "finished"


def _check_resources(ray: Any, spec: Spec, need_gpu: bool) -> None:
    kind_of, there = (
        ("GPU", ray.cluster_resources().get("GPU", 0)) if need_gpu else ("CPU", ray.cluster_resources().get("CPU", 0))
    )
    if there < spec.where.workers:
        raise UsageError(
            f"The cluster has {there:g} {kind_of}s in all, but --workers {spec.where.workers} need one each: take fewer workers."
        )


def _fit_trainer(trainer: Any, ended: dict[str, Any]) -> None:
    try:
        trainer.fit()
    except Exception as error:  # whatever ended Ray Train is told in the driver's thread
        ended["error"] = error


def _cluster_worker(config: dict[str, Any]) -> None:
    """One worker under Ray Train. A sentence for the user is told and ends the group; anything else restarts it."""
    import ray
    from ray.train import get_context
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    from ray_jobs.fit import fit

    mailbox, spec = config["mailbox"], Spec.of(config["spec"])
    first = get_context().get_world_rank() == 0

    def tell(event: dict[str, Any]) -> None:
        if first:
            ray.get(mailbox.put.remote(dict(event)))

    run = Run.open(config["run"])
    placement = {
        "devices": "auto",
        "strategy": RayDDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True),
        "plugins": [RayLightningEnvironment()],
    }
    try:
        done = fit(
            run, spec, report=tell, placement=placement, should_stop=lambda: ray.get(mailbox.told_to_stop.remote())
        )
        tell({"outcome": "finished" if done else "stopped"})
    except UsageError as error:
        tell({"usage": str(error)})
    except FloatingPointError as error:
        tell({"error": str(error)})
