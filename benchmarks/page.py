"""docs/speed.md, written from the records in benchmarks/results: Reprise and its peers, with the ratio of each round.

python -m benchmarks.page
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.densities import over_seeds
from benchmarks.harness import ROOT, Row, column, paired_ratio, spread

PAGE = ROOT / "docs" / "speed.md"
HEAD = """# Speed and accuracy against other libraries

Written by `python -m benchmarks.page` from `benchmarks/results`, never by hand. [benchmarks/README.md](../benchmarks/README.md) describes
what is equal, what is not, and how to measure it again. Each figure is the median over rounds, with quartiles in brackets where there are
several rounds. The last column is the ratio of the first contender's figure to this one's, computed within each round.
"""
SHOWN = {
    "rl_speed": ("Reinforcement learning, one seed", "updates_per_s"),
    "impala": ("IMPALA", "env_steps_per_s"),
    "ppo_cartpole": ("PPO on CartPole-v1", "env_steps_per_s"),
    "ppo_cartpole_race": ("PPO on CartPole-v1, from launch to a mean return of 475", "seconds_to_475"),
    "together": ("Seeds trained together in one process", "seed_updates_per_s"),
    "flows": ("Flows", "calls_per_s"),
    "autoregressive": ("Autoregressive samplers", "samples_per_s images_per_s"),
    "loop": ("The training loop", "steps_per_s"),
    "ddp": ("Data-parallel training on one machine", "images_per_s"),
    "evolution": ("Evolution strategies on workers of one machine", "generations_per_s"),
    "self_play": ("Tree search on connect-4", "simulations_per_s"),
    "tuning": ("A trial of a search, beyond its training", "over_s"),
}
"""Title and key of each benchmark's figures; the first key that a row has."""


def page(results: Path = ROOT / "benchmarks" / "results") -> str:
    """The whole page."""
    read = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    sections = [section(*SHOWN[name], read[name]) for name in SHOWN if name in read]
    return "\n".join([HEAD, *sections, densities(read["densities"])])


def section(title: str, keys: str, recorded: Mapping[str, Any]) -> str:
    """A table of every part and contender."""
    lines = [f"## {title}", "", machine_line(recorded), ""]
    lines += ["| | | rounds | figure | first / this |", "|---|---|---|---|---|"]
    for part, rows in recorded["parts"].items():
        lines += cells(part, rows, keys.split())
    return "\n".join([*lines, ""])


def cells(part: str, rows: Mapping[str, list[Row]], keys: list[str]) -> Iterator[str]:
    """A line for each contender of a part."""
    key = next((k for k in keys if any(column(mine, k) for mine in rows.values())), keys[0])
    first = next(iter(rows))
    for name, mine in rows.items():
        found = column(mine, key)
        figure = f"{spread(found)} {key}" if found else "none"
        ratio = "" if name == first else str(paired_ratio(rows[first], mine, key) or "")
        yield f"| {part if name == first else ''} | {name} | {len(found)} | {figure} | {ratio} |"


def densities(recorded: Mapping[str, Any]) -> str:
    """The gaps to the entropy, a column for each library."""
    libraries = list(dict.fromkeys(name for rows in recorded["parts"].values() for name in rows))
    lines = ["## Density models at equal budget", "", machine_line(recorded), ""]
    lines += [
        "Nats above the entropy, mean over seeds and its standard error; depth, width, batch and steps are the same.",
        "",
    ]
    lines += ["| | " + " | ".join(libraries) + " |", "|---" * (len(libraries) + 1) + "|"]
    for part, rows in recorded["parts"].items():
        gaps = (over_seeds(rows[name]) if name in rows else "" for name in libraries)
        lines.append(f"| {part} | " + " | ".join(gaps) + " |")
    return "\n".join([*lines, ""])


def machine_line(recorded: Mapping[str, Any]) -> str:
    """The machine and the date of a record, and a warning if the machine was busy."""
    where = recorded["machine"]
    busy = "" if recorded["quiet"] else " **The machine was busy: do not quote.**"
    return f"{where['cpu']}, {where['cores']} cores, torch {where['torch']}, {where['measured'][:10]}.{busy}"


if __name__ == "__main__":
    PAGE.write_text(page())
