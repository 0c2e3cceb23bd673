"""Snapshots of the averages of a run's weights: checkpoints/averages-00001000.ckpt, all of which are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray_jobs.run.files import listed
from ray_jobs.run.folder import Run


def snapshots(run: Run, step: int) -> list[Path]:
    """The snapshots up to a step, oldest first."""
    found = listed(run.path / "checkpoints", "averages-*.ckpt", within=run.path)
    return [path for path in found if int(path.stem.removeprefix("averages-")) <= step]


def load(run: Run, step: int) -> list[dict[str, Any]]:
    """The states of the averages in the snapshots up to a step, oldest first.

    Raises:
        UsageError: one cannot be read.
    """
    return [run.load(path, {"averages": dict})["averages"] for path in snapshots(run, step)]


def save(run: Run, step: int, state: Mapping[str, Any]) -> None:
    """Keep a snapshot (tensors and plain types), which is sent with the next checkpoint; a full disk is reported, and ends nothing."""
    try:
        run.keep(
            f"averages-{step:010d}",
            {"averages": dict(state), "reprise": {"recipe": run.spec.recipe, "step": step}},
        )
    except OSError as error:
        why = error.strerror or error
        run.report({"note": f"The averages of step {step} could not be written to {run}: {why}. Training continues."})
