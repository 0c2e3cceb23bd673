"""Two processes that compute together, as DDP's workers do, started by a fork of one that has imported what they need.

A new Python imports torch and Lightning for five seconds of a core; a fork of a server that has done so once takes a tenth of one.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch

IMPORTED = ["torch", "lightning.pytorch", "torch.distributed", "ray_jobs.train.fit", "ray_jobs.results.plots"]
"""What the server imports; it starts with the first use and ends with this process."""


def together(worker: Callable[..., None], *args: Any) -> None:
    """Call `worker(*args)` in two processes whose environment has their rank, for Lightning's DDP; an error of either is raised here."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(IMPORTED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(_as_rank, (port, worker, args), nprocs=2, start_method="forkserver")


def _as_rank(rank: int, port: int, worker: Callable[..., None], args: tuple[Any, ...]) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    worker(*args)
