"""Pictures of the deadly triad."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ray_jobs.results import plots
from ray_jobs.tabular.approximation.updates import diverges
from ray_jobs.tabular.mdp import Array


def weights(mean: Array, exact: Array, block: int, title: str, path: Path) -> None:
    """Draw the mean weights [T, n] by update, and their exact mean, dashed; the axis is logarithmic beyond 1."""
    with plots.figure(6.4, 3.6) as (fig, axes):
        updates = np.arange(len(mean)) * block
        for i in range(mean.shape[1]):
            (line,) = axes.plot(updates, mean[:, i], label=f"w{i + 1}")
            axes.plot(updates, exact[:, i], linestyle="--", color=line.get_color(), alpha=0.6)
        axes.set_yscale("symlog", linthresh=1.0)
        plots.plain_numbers(axes.yaxis)
        axes.set_xlabel("update (dashed: exact mean)")
        axes.set_ylabel("weight")
        axes.set_title(title)
        axes.legend(frameon=False, ncols=2, fontsize="small")
        plots.save(fig, path)


def errors(value: Array, projected: Array, block: int, title: str, path: Path) -> None:
    """Draw the value error and the projected Bellman error [T] by update, on a logarithmic axis."""
    with plots.figure(6.4, 3.6) as (fig, axes):
        updates = np.arange(len(value)) * block
        axes.plot(updates, value, label="value error")
        axes.plot(updates, projected, label="projected Bellman error")
        axes.set_yscale("log")
        plots.plain_numbers(axes.yaxis)
        axes.set_xlabel("update")
        axes.set_ylabel("root of the mean square")
        axes.set_title(title)
        axes.legend(frameon=False)
        plots.save(fig, path)


def cells(growth: Mapping[tuple[bool, bool, bool], float], example: str, path: Path) -> None:
    """Draw the eight cells: (linear, bootstrapped, off-policy) -> factor of an expected update; the ones that diverge are filled."""
    rows = [(linear, bootstrapped) for linear in (False, True) for bootstrapped in (False, True)]
    names = [
        f"{'linear' if a else 'a weight for each state'},\n{'bootstrapped' if b else 'Monte Carlo'}" for a, b in rows
    ]
    text = [[f"{growth[*row, off]:.6f}" for off in (False, True)] for row in rows]
    colours = [["#f4b6a6" if diverges(growth[*row, off]) else "white" for off in (False, True)] for row in rows]
    with plots.figure(6.4, 2.8) as (fig, axes):
        axes.set_axis_off()
        table = axes.table(
            text,
            cellColours=colours,
            rowLabels=names,
            colLabels=["on-policy", "off-policy"],
            loc="center",
            cellLoc="center",
        )
        table.scale(1, 2.2)
        fig.suptitle(f"{example}: growth for each expected update (filled: diverges)")
        plots.save(fig, path)
