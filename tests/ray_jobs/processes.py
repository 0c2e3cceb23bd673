"""Processes of studies, advanced without a run folder."""

from ray_jobs.distributed.crew import Here, OnRay
from ray_jobs.train.states import packed, unpacked


def run(process, steps, seed=0):
    """The state after so many steps in this process."""
    state = process.begin(seed)
    for step in range(steps):
        process.advance(state, step, seed, Here())
    return state


def three_ways(process):
    """The state after four steps: here, with a checkpoint after the second, and on two workers."""
    whole, parted, spread = run(process, 4), unpacked(packed(run(process, 2), 2)), process.begin(0)
    with OnRay(2, 0) as crew:
        for step in range(4):
            process.advance(spread, step, 0, crew)
            if step >= 2:
                process.advance(parted, step, 0, Here())
    return whole, parted, spread
