"""`reprise show R --cost`: what a training takes, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_jobs.train.costs.counting import Cost

GIB = 2.0**30
COUNTED = (
    "Counted on tensors without memory, in float32 and with fused attention: bfloat16 needs less, temporary buffers of a GPU's "
    "libraries come on top"
)


def lines(cost: Cost, gpu_memory: float) -> Iterator[tuple[str, str]]:
    """What each line is about, and its text.

    Args:
        gpu_memory: of each GPU, in GiB.
    """
    moved = "" if cost.trained == cost.parameters else f", {millions(cost.trained)} of them trained"
    yield "parameters", f"{millions(cost.parameters)}{moved}"
    parts = {
        "weights": cost.weights,
        "gradients": cost.gradients,
        "optimiser": cost.optimiser,
        "averages": cost.averages,
    }
    yield "memory", ", ".join(f"{name} {gib(size)}" for name, size in parts.items()) + f"; {gib(cost.fixed)} together"
    if cost.unknown:
        yield "activations", f"not counted, because the model cannot run without values ({cost.unknown})"
        yield "GPUs", f"unknown: each needs more than {gib(cost.fixed)}"
        return
    for stage in cost.stages:
        of = f" of {stage.name}" if stage.name else ""
        yield (
            f"activations{of}",
            f"about {gib(stage.each)} for each example of a micro-batch and {gib(stage.base)} in any case",
        )
        yield f"a step{of}", f"{flop(stage.flop * cost.batch)} on {cost.batch} examples, {flop(stage.flop)} on each"
    yield "GPUs", gpus(cost, gpu_memory)


def gpus(cost: Cost, memory: float) -> str:
    """How many GPUs of so many GiB fit, and with how many micro-batches fewer do."""
    fewest = cost.fewest(memory * GIB)
    if not fewest and not (fewer := fewer_with(cost, memory)):
        return (
            f"no number of {memory:g} GiB fits with --workers: {gib(cost.fixed)} are in use on each whatever the batch"
        )
    found = [f"{fewest} of {memory:g} GiB ({gib(cost.on_each(fewest))} in use on each)"] if fewest else []
    if fewest != 1 and (fewer := fewer_with(cost, memory)):
        found.append(
            f"with --accumulate {fewer[0]} {fewer[1]} of {memory:g} GiB ({gib(cost.on_each(fewer[1], fewer[0]))})"
        )
    return "; ".join(found)


def fewer_with(cost: Cost, memory: float) -> tuple[int, int] | None:
    """The fewest micro-batches with which the fewest GPUs of so many GiB fit, and their number; None: none do."""
    divisors = [a for a in range(cost.accumulate, cost.batch + 1) if cost.batch % a == 0]
    found = [(n, a) for a in divisors if (n := cost.fewest(memory * GIB, a))]
    return (min(found)[1], min(found)[0]) if found else None


def millions(count: int) -> str:
    """A count of parameters, such as 35.8 M."""
    return f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count}"


def gib(size: float) -> str:
    """Bytes in GiB, or in MiB or KiB where they are few."""
    if size >= GIB / 10:
        return f"{size / GIB:.2f} GiB"
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 / 10 else f"{size / 2**10:.1f} KiB"


def flop(count: float) -> str:
    """Floating-point operations with a prefix."""
    for size, name in ((1e15, "P"), (1e12, "T"), (1e9, "G")):
        if count >= size:
            return f"{count / size:.2f} {name}FLOP"
    return f"{count / 1e6:.2f} MFLOP"
