"""Pictures of bandits: regret over time, and rewards on a log. Matplotlib is imported when they are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ray_jobs.bandits.arms import Arms, Array
from ray_jobs.bandits.exact import lai_robbins, ucb1_bound
from ray_jobs.bandits.replay import Log
from ray_jobs.bandits.runs import NORMAL_95
from ray_jobs.results.plots import BLUE, GREY, INK, ORANGE, figure, plain_numbers, save

LATE = 1_000
"""Pulls from which on the limit's slope is worth comparing with."""


def regret(
    times: NDArray[np.int64], mean: Array, error: Array, arms: Arms, known: Array | None, title: str, path: Path
) -> Path:
    """The mean regret [P] at times [P] on a logarithmic axis of time, with its 95% band.

    Args:
        error: standard error of the mean [P].
        arms: for Lai and Robbins' slope, which is drawn through the last point.
        known: the exact regret after 1, 2, ... pulls, dashed; None: it is not known.
        title: the policy.
        path: the PNG file to write.
    """
    bar = NORMAL_95 * error
    with figure(6.4, 3.6) as (fig, axes):
        axes.plot(times, mean, color=BLUE, label="mean of the runs")
        axes.fill_between(times, mean - bar, mean + bar, color=BLUE, alpha=0.25, linewidth=0)
        if known is not None:
            axes.plot(np.arange(1, len(known) + 1), known, "--", color=ORANGE, linewidth=1.6, label="exact")
        if times[-1] >= LATE:
            slope, late = lai_robbins(arms), times >= times[-1] / 10
            line = mean[-1] + slope * np.log(times[late] / times[-1])
            axes.plot(
                times[late],
                line,
                ":",
                color=GREY,
                linewidth=1.6,
                label=f"least slope in the limit, {slope:.3g} for each ln T",
            )
        if title == "UCB1" and not arms.deviation:
            axes.plot([], [], " ", label=f"bound of theorem 1: {ucb1_bound(arms, int(times[-1])):.4g}")
        axes.set(xscale="log", xlabel="pulls T", ylabel="regret", ylim=(0, None))
        plain_numbers(axes.xaxis)
        axes.legend(frameon=False, loc="upper left")
        axes.set_title(f"{title}, arms {', '.join(f'{m:g}' for m in arms.means)}")
        return save(fig, path)


def rewards(log: Log, counts: Array, sums: Array, title: str, path: Path) -> Path:
    """How often a policy chose each arm of a log, beside the arms' mean rewards, and the rewards of its runs.

    Args:
        counts, sums: of each run and arm [R, K].
        title: the policy.
        path: the PNG file to write.
    """
    each = sums.sum(1) / np.maximum(counts.sum(1), 1)
    share = counts.sum(0) / max(counts.sum(), 1)
    order = np.argsort(log.means)[::-1][:20]
    with figure(6.4, 1.6 + 0.28 * len(order)) as (fig, axes):
        axes.barh(np.arange(len(order)), share[order], color=BLUE, height=0.6)
        names = [f"{log.names[k]}  ({log.means[k]:.3f})" for k in order]
        axes.set(yticks=np.arange(len(order)), yticklabels=names, xlabel="share of the choices", xlim=(0, 1))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.text(0.98, 0.04, f"reward {each.mean():.4f}, the log {log.rewards.mean():.4f}", color=INK, ha="right",
                  transform=axes.transAxes)  # fmt: skip
        axes.set_title(f"{title}: arms with their mean rewards")
        return save(fig, path)
