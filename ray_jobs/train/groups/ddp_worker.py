"""python -m ray_jobs.train.groups.ddp_worker FOLDER ADDRESS: one process of a group; `ddp_group` starts it with its rank set."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray_jobs.errors import UsageError
from ray_jobs.run.folder import Run


def _end_with_driver() -> None:
    sys.stdin.read()
    os._exit(1)


def _channel() -> Callable[[Any], None]:
    """What sends an event to the driver, one JSON object a line; whatever else is printed goes to the log."""
    events, turn = os.fdopen(os.dup(1), "w"), threading.Lock()
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    def send(event: Any) -> None:
        with turn:
            print(json.dumps(event), file=events, flush=True)

    return send


def _live(send: Callable[[Any], None]) -> None:
    """Send a sign of life each second, for as long as the driver listens."""
    with contextlib.suppress(OSError):
        while True:
            send({"alive": True})
            time.sleep(1)


def placement(workers: int) -> dict[str, Any]:
    """Arguments of `lightning.Trainer` for a worker of a group on this machine; its rank is in the environment."""
    from lightning.pytorch.plugins.environments import LightningEnvironment
    from lightning.pytorch.strategies import DDPStrategy

    strategy = DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)
    return {"devices": workers, "plugins": [LightningEnvironment()], "strategy": strategy}


def main() -> None:
    """Train this rank's share; each rank sends signs of life to the driver, and rank 0 its events."""
    send = _channel()
    threading.Thread(target=_live, args=(send,), daemon=True).start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    first = os.environ["RANK"] == "0"

    def report(event: Any) -> None:
        if first:
            send(event)

    from ray_jobs.train.fit import NotFinite, fit

    run = Run(Path(sys.argv[1]), sys.argv[2] or None)
    try:
        done = fit(run, run.spec, report=report, should_stop=stop.is_set, placement=placement(run.spec.where.workers))
        report({"outcome": "finished" if done else "stopped"})
    except UsageError as error:
        report({"usage": str(error)})
        raise
    except (NotFinite, OSError) as error:
        report({"error": str(error)})
        raise


if __name__ == "__main__":
    main()
