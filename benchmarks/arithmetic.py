"""What breaks first at 1,000 GPUs: the tables of docs/scale.md, computed from measurements and a few assumptions, which are named here.

python -m benchmarks.arithmetic docs/scale.md      writes them into the page; a test fails where it is out of date
"""

from __future__ import annotations

import heapq
import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
GPUS, EACH = 1000, 8
"""GPUs, and of one node."""
SUSTAINED = 20e12
"""Floating-point operations a second that a GPU is assumed to do, in small images' convolutions: a tenth of what an A100 could in TF32."""
LEAST = 2e-3
"""Seconds that a step is assumed to take at least: Lightning's own, 0.4 to 1.1 ms where it was measured, and starting kernels."""
STORES = (1e9, 1e10, 1e11)
"""Bytes a second of shared storage."""
LINKS = {"25 Gb/s": 25e9 / 8, "100 Gb/s": 100e9 / 8}
INSIDE = 450e9
"""Bytes a second, one way, between GPUs of one node: NVLink of an H100."""
NODE_LIFE = 54 * 86_400 * (16_384 / 8) / 419
"""Mean seconds between failures of a node of 8 GPUs. Source: Grattafiori et al. 2024, arXiv:2407.21783, section 3.3.4: 419 unforeseen
interruptions in 54 days of 16,384 GPUs."""
CALL = 1e-3
"""Seconds that a call to a Ray actor takes its driver."""
CREWS = (1, 18, 360, 1440)
"""Workers of evolution strategies: 18 and 1,440 are those of Salimans et al. 2017, arXiv:1703.03864, figure 1."""
EPISODES = (100, 1000)
"""Steps of an episode of the humanoid: while it learns to stand, and the most."""
PAIRS = 5000
"""Of a generation of evolution strategies, as in the authors' code."""
COPIES = 3
"""Checkpoints on the disk while the newest is written: the two that are kept, and it."""

Row = Mapping[str, Any]


# ---- formulas


def young(write: float, life: float) -> float:
    """Seconds between checkpoints that lose least: sqrt(2 write life).

    Source: Young 1974, A first order approximation to the optimum checkpoint interval; Daly 2006 has the next order.
    """
    return math.sqrt(2 * write * life)


def lost(every: float, write: float, life: float) -> float:
    """Share of the time that is lost to writing, and, half an interval for each failure, to doing again."""
    return write / every + every / (2 * life)


def ring(size: float, workers: int) -> float:
    """Bytes that each worker sends in a ring all-reduce of `size` bytes.

    Source: Patarasuk & Yuan 2009, Bandwidth optimal all-reduce algorithms for clusters of workstations.
    """
    return 2 * (workers - 1) / workers * size


def step_seconds(row: Row) -> float:
    """Of one step on one GPU, as assumed."""
    return max(LEAST, row["flop_per_step"] / SUSTAINED)


def efficiency(row: Row, workers: int, link: float) -> float:
    """Speed-up over `workers` for the same global batch, where nothing sums while it computes."""
    alone, compute = step_seconds(row), max(LEAST, row["flop_per_step"] / SUSTAINED / workers)
    return alone / workers / (compute + ring(4 * row["parameters"], workers) / link)


def break_even(row: Row, link: float) -> float:
    """Workers at which the sums take as long as the computing."""
    return row["flop_per_step"] / SUSTAINED / (2 * 4 * row["parameters"] / link)


def generation(shards: Sequence[float], update: float, workers: int) -> float:
    """Seconds of a generation of evolution strategies.

    Shards go to the worker that is idle first, one call after the other. A worker computes the last update before its first shard; the
    driver computes its own after the last answer.
    """
    idle, calls = [0.0] * workers, 0.0
    for seconds in shards:
        calls += CALL
        free = heapq.heappop(idle)
        heapq.heappush(idle, max(free, calls) + seconds + (0.0 if free else update))
    return max(idle) + update


# ---- words


def size(n: float) -> str:
    """Bytes in three digits."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= scale:
            return f"{n / scale:.3g} {unit}"
    return f"{n:.0f} B"


def span(seconds: float) -> str:
    """A time in two or three digits."""
    for unit, scale in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1000:.3g} ms"


def share(x: float) -> str:
    """A share in percent."""
    return f"{100 * x:.2g}%" if x < 0.995 else f"{100 * x:.0f}%"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def largest_first(rows: Mapping[str, Row], key: str) -> list[tuple[str, Row]]:
    """The rows with their names, the largest value of `key` first."""
    return sorted(rows.items(), key=lambda item: -item[1][key])


# ---- tables


def checkpoints(fits: Mapping[str, Row]) -> str:
    """Sizes of checkpoints, and the load that they put on storage."""
    heads = [
        "recipe",
        "weights",
        "checkpoint",
        "a step",
        "between two",
        f"{GPUS:,} seeds at once, 10 GB/s",
        "their mean load",
    ]
    rows = []
    for name, r in largest_first(fits, "checkpoint_bytes"):
        between = r["save_every"] * step_seconds(r)
        whole = GPUS * r["checkpoint_bytes"]
        numbers = [f"{r['parameters'] / 1e6:.3g} M", size(r["checkpoint_bytes"]), span(step_seconds(r)), span(between)]
        rows.append([f"`{name}`", *numbers, span(whole / STORES[1]), f"{size(whole / between)}/s"])
    return table(heads, rows)


def failures(fits: Mapping[str, Row]) -> str:
    """The best interval between checkpoints, and the time lost with it and with ours."""
    heads = [
        "recipe",
        "write, 1 GB/s",
        "best interval",
        "ours",
        "lost at best",
        "lost with ours",
        f"best, one job on {GPUS:,} GPUs",
    ]
    rows = []
    for name, r in largest_first(fits, "checkpoint_bytes"):
        write, ours = r["checkpoint_bytes"] / STORES[0], r["save_every"] * step_seconds(r)
        best, together = young(write, NODE_LIFE), young(write, NODE_LIFE / (GPUS / EACH))
        losses = [share(lost(t, write, NODE_LIFE)) for t in (best, ours)]
        rows.append([f"`{name}`", span(write), span(best), span(ours), *losses, span(together)])
    return table(heads, rows)


def sums(fits: Mapping[str, Row]) -> str:
    """Efficiency of data-parallel training, by gradient size and link."""
    heads = [
        "recipe",
        "gradient",
        "a step, 1 GPU",
        "8 GPUs, NVLink",
        *[f"16 GPUs, {k}" for k in LINKS],
        "half lost at, 100 Gb/s",
    ]
    rows = []
    for name, r in largest_first(fits, "parameters"):
        shares = [share(efficiency(r, 8, INSIDE)), *[share(efficiency(r, 16, link)) for link in LINKS.values()]]
        half = f"{max(1.0, break_even(r, LINKS['100 Gb/s'])):.0f} GPUs"
        rows.append([f"`{name}`", size(4 * r["parameters"]), span(step_seconds(r)), *shares, half])
    return table(heads, rows)


def replays(agents: Mapping[str, Row]) -> str:
    """Sizes of replay buffers, and the time to write them."""
    heads = ["recipe", "full replay buffer", "of it on the disk", "write, 1 GB/s", f"{GPUS:,} seeds, 10 GB/s"]
    rows = []
    for name, r in largest_first({n: r for n, r in agents.items() if r["replay_bytes"]}, "replay_bytes"):
        held = r["replay_bytes"]
        rows.append(
            [f"`{name}`", size(held), size(COPIES * held), span(held / STORES[0]), span(GPUS * held / STORES[1])]
        )
    return table(heads, rows)


def runners(agents: Mapping[str, Row]) -> str:
    """Fragments of runners, and how many runners a link and a learner can serve."""
    fills = [f"fill {k}" for k in LINKS]
    heads = ["recipe", "fragment", "weights", "a runner's steps/s", "moves", *fills, "learner's steps/s", "takes"]
    rows = []
    for name, r in largest_first({n: r for n, r in agents.items() if not r["replay_bytes"]}, "fragment_bytes"):
        steps = r["envs"] * r["horizon"]
        traffic = (r["fragment_bytes"] + r["weight_bytes"]) / r["play_s"]
        fill = [
            f"{link * r['play_s'] / max(r['fragment_bytes'], r['weight_bytes']):.0f} runners" for link in LINKS.values()
        ]
        rates = [f"{steps / r['learn_s']:,.0f}", f"{r['play_s'] / r['learn_s']:.2g} runners"]
        pace = [f"{steps / r['play_s']:,.0f}", f"{size(traffic)}/s"]
        rows.append([f"`{name}`", size(r["fragment_bytes"]), size(r["weight_bytes"]), *pace, *fill, *rates])
    return table(heads, rows)


def driver(parts: Mapping[str, Sequence[Row]]) -> str:
    """Load of the driver by the number of running seeds."""
    heads = ["seeds at work, output", "looks/s at each", "driver's share of a core", "files opened/s"]
    rows = [
        [name, f"{r['polls_per_s']:.2g}", share(r["driver_core_share"]), f"{r['opens_per_s']:,.0f}"]
        for name, (r, *_) in parts.items()
    ]
    return table(heads, rows)


def simulation(parts: Mapping[str, Sequence[Row]]) -> str:
    """Scheduling on simulated clusters."""
    parts = dict(sorted(parts.items(), key=lambda part: part[1][0]["raylets"]))
    heads = ["", *parts]
    rows = {
        "raylets that ran": lambda r: f"{r['raylets']:.0f}, {r['raylet_mib']:.0f} MiB each; GCS {r['gcs_mib']:.0f} MiB",
        "start of the cluster": lambda r: span(r["start_s"]),
        "seeds, finished seeds": lambda r: f"{r['units']:,}, {r['finished']:,}",
        "slots (made-up cores and GPUs)": lambda r: f"{r['places']:,}",
        "plans of all, before anything starts": lambda r: f"{span(r['plan_s'])}, {span(r['plan_again_s'])} once they are finished",
        "all of it": lambda r: f"{span(r['wall_s'])}, {span(r['wall_s_per_seed'])} a seed",
        "last seed started after": lambda r: span(r["all_begun_s"]),
        "driver's time on a core": lambda r: f"{span(r['driver_cpu_s'])}, {span(r['driver_cpu_ms_per_seed'] / 1000)} a seed",
        "files opened by the driver": lambda r: f"{r['opens_per_s']:,.0f}/s",
        "most at a time": lambda r: f"{r.get('peak_cpus', 0):.0f} CPUs, {r.get('peak_gpus', 0):.0f} GPUs given out",
        "seeds of a node": lambda r: f"{r['fewest_on_a_node']:.0f} to {r['most_on_a_node']:.0f} on {r['nodes_used']:.0f} nodes",
        "GPUs with two seeds at a time": lambda r: f"{r['gpus_shared']:.0f}",
        "seeds that held a GPU without need": lambda r: f"{r['gpus_held_without_need']:.0f}",
    }  # fmt: skip
    return table(heads, [[what, *(say(r) for r, *_ in parts.values())] for what, say in rows.items()])


def evolution(parts: Mapping[str, Sequence[Row]]) -> str:
    """Generations of the paper's humanoid on workers, simulated with measured seconds of steps and updates."""
    heads = ["perturbations", "steps of an episode", "an update", *[f"{n:,} worker{'s' * (n > 1)}" for n in CREWS]]
    rows = []
    for name, measured in parts.items():
        r, update = measured[0], min(row["update_s"] / row["pairs"] for row in measured) * PAIRS
        for steps in EPISODES:
            drawn = random.Random(0).choices(
                [s * 2 * r["shard"] * steps for s in r["step_s_by_shard"]], k=PAIRS // r["shard"]
            )
            took = [generation(drawn, update, n) for n in CREWS]
            rows.append([name, f"{steps:,}", span(update), *[f"{span(t)}, {took[0] / t:,.3g} times" for t in took]])
    return table(heads, rows)


def tables(sizes: Mapping[str, Any], scale: Mapping[str, Any], costs: Mapping[str, Any]) -> dict[str, str]:
    """Every table of the page by its name."""
    good = {part: {n: r[-1] for n, r in rows.items() if "error" not in r[-1]} for part, rows in sizes["parts"].items()}
    fits, agents = good["generative models"], good["agents"]
    made = {"checkpoints": checkpoints, "failures": failures, "sums": sums}
    return {
        **{name: make(fits) for name, make in made.items()},
        "replays": replays(agents), "runners": runners(agents),
        "evolution": evolution(costs["parts"]["es_humanoid"]),
        "driver": driver(scale["parts"]["driver"]), "simulation": simulation(scale["parts"]["cluster"]),
    }  # fmt: skip


def with_tables(text: str) -> str:
    """A Markdown page with its tables computed again."""
    made = tables(
        *(json.loads((RESULTS / f"{name}.json").read_text()) for name in ("sizes", "scale", "evolution_costs"))
    )

    def block(found: re.Match) -> str:
        return f"<!-- table: {found[1]} -->\n{made[found[1]]}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", block, text, flags=re.S)


if __name__ == "__main__":
    import sys

    page = Path(sys.argv[1])
    page.write_text(with_tables(page.read_text()))
