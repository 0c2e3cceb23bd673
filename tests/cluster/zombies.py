"""python -m tests.cluster.zombies ADDRESS FOLDER: a group that writes until it is stopped; a second one when it has died.

FOLDER/life-1-rank-0    grows while that worker of the first group writes
FOLDER/refused-0        there when it was refused
FOLDER/over             there when the second group has done its work
"""

import itertools
import sys
from pathlib import Path

from ray_jobs.distributed.connection import connect
from ray_jobs.distributed.ray_group import Group, restart_on_failure


def work(config: dict) -> None:
    """Write the run's status again and again; in the second life, once."""
    import ray
    from ray.train import get_context

    from ray_jobs.run.fence import Fenced

    run, rank = Fenced(Path(config["folder"])), get_context().get_world_rank()
    run.ask = lambda: ray.get(config["mailbox"].should_stop.remote())
    try:
        for count in itertools.count():
            run.status("running", count, 0)
            with open(run.path / f"life-{config['life']}-rank-{rank}", "a") as beats:
                beats.write(".")
            if config["life"] == 2:
                return
    except Exception:
        (run.path / f"refused-{rank}").touch()
        raise


def main(address: str, folder: str) -> None:
    connect(address)
    life = itertools.count(1)
    group = Group(work, f"{folder}/ray", False, print, print, lambda: False)
    ended = restart_on_failure(lambda: group.run_once(2, {"folder": folder, "life": next(life)}), print, 1)
    if ended:
        raise ended
    Path(folder, "over").touch()


if __name__ == "__main__":
    main(*sys.argv[1:])
