"""Pictures of dynamic programming: values and policy on the map, and how the error falls. Matplotlib is imported when they are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ray_jobs.results.plots import BLUE, GREY, INK, ORANGE, figure, plain_numbers, save
from ray_jobs.tabular.mdp import MDP, Array
from ray_jobs.tabular.problems import Letters, Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {"S": "start", "G": "goal", "H": "hole", "C": "cliff"}
"""What the letters of a map mean."""
SHADES = {"H": "#2b3040", "C": "#2b3040", "G": ORANGE}
"""Colours of the cells where an episode ends or falls back."""
SMALLEST = 1e-16
"""Errors below this are rounding, and are drawn there."""


def value(of: Problem, values: Array, exact: Array, policy: Array, title: str, path: Path) -> Path:
    """Values [S] as a heat map with the policy's [S, A] arrows, start, goal and holes marked; without a map, values over exact ones [S].

    Args:
        of: the problem; its own picture or its map decides which picture is drawn.
        values, exact, policy: what is shown.
        title: above the picture.
        path: the PNG file to write.
    """
    if of.picture is not None:
        return of.picture(values, policy, title, path)
    if of.letters is None:
        return _against_exact(values, exact, title, path)
    rows, columns = of.letters.shape
    width = max(4.6, 0.62 * columns + 1.3)
    with figure(width, 0.62 * rows + 0.9) as (fig, axes):
        _heat(fig, axes, of.letters, values.reshape(rows, columns))
        _arrows(axes, of, policy)
        axes.set(xticks=[], yticks=[])
        axes.set_title(title)
        return save(fig, path)


def _heat(fig: Figure, axes: Axes, letters: Letters, values: Array) -> None:
    """The values as colours and numbers; holes, cliff and goal in colours of their own."""
    from matplotlib.patches import Rectangle

    shown = np.ma.masked_where(np.isin(letters, list(SHADES)), values)
    image = axes.imshow(shown, cmap="Blues", alpha=0.85)
    low, high = float(shown.min()), float(shown.max())
    image.set_clim(low, high + 0.35 * max(high - low, 1e-12))  # no cell so dark that ink cannot be read on it
    digits = 2 if max(abs(low), abs(high)) < 10 else 1
    for (row, column), letter in np.ndenumerate(letters):
        if letter in SHADES:
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=SHADES[letter], linewidth=0))
            axes.text(column, row, NAMES[letter], color="white", ha="center", va="center", fontsize=9)
        else:
            text = f"{values[row, column]:.{digits}f}"
            axes.text(column, row + 0.34, text, color=INK, ha="center", va="center", fontsize=7.5)
        if letter == "S":
            axes.text(column, row - 0.36, "start", color=INK, ha="center", va="center", fontsize=7.5)
    axes.grid(visible=False)
    axes.set_xticks(np.arange(-0.5, letters.shape[1]), minor=True)
    axes.set_yticks(np.arange(-0.5, letters.shape[0]), minor=True)
    axes.grid(visible=True, which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    bar = fig.colorbar(image, ax=axes, shrink=0.8, label="value")
    bar.ax.set_ylim(low, high if high > low else low + 1e-12)
    bar.outline.set_visible(False)  # type: ignore[operator]


def _arrows(axes: Axes, of: Problem, policy: Array) -> None:
    """One arrow in each cell that is no end, for each action that the policy takes there."""
    letters: Any = of.letters
    ways = directions(of.mdp, letters.shape[1])
    for state, (row, column) in enumerate(np.ndindex(letters.shape)):
        if letters[row, column] in SHADES:
            continue
        for action in np.flatnonzero(policy[state]):
            down, right = ways[action]
            tail, head = (
                (column - 0.2 * right, row - 0.03 - 0.2 * down),
                (column + 0.2 * right, row - 0.03 + 0.2 * down),
            )
            arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", head, tail, arrowprops=arrow)


def directions(mdp: MDP, columns: int) -> list[tuple[int, int]]:
    """(down, right) of each action on a grid: where it leads on average, counting moves to neighbouring cells."""
    cells = np.arange(len(mdp.start))
    row, column = np.divmod(cells, columns)
    down, right = row[None, :] - row[:, None], column[None, :] - column[:, None]
    near = np.abs(down) + np.abs(right) == 1
    found = []
    for action in range(mdp.reward.shape[1]):
        moves = mdp.transition[:, action] * near
        mean = float((moves * down).sum()), float((moves * right).sum())
        vertical = abs(mean[0]) >= abs(mean[1])
        found.append((int(np.sign(mean[0])), 0) if vertical else (0, int(np.sign(mean[1]))))
    return found


def _against_exact(values: Array, exact: Array, title: str, path: Path) -> Path:
    """The values of all states over the exact ones, on the diagonal where they are equal."""
    with figure(4.6, 4.2) as (fig, axes):
        ends = [float(exact.min()), float(exact.max())]
        axes.plot(ends, ends, color=GREY, linewidth=1.0, label="equal")
        axes.plot(exact, values, "o", color=BLUE, markersize=3, alpha=0.6, label=f"{len(exact)} states")
        axes.set(xlabel="V of the optimal policy", ylabel="V found")
        axes.legend(frameon=False)
        axes.set_title(title)
        return save(fig, path)


def convergence(errors: Array, gamma: float, unit: str, title: str, path: Path) -> Path:
    """The largest error after each step [K + 1] on a logarithmic axis, with the bound gamma^k of a contraction dashed.

    Args:
        errors: before the first step, and after each.
        gamma: discount per step.
        unit: what a step is.
        title: above the picture.
        path: the PNG file to write.
    """
    k = np.arange(len(errors))
    with figure(6.4, 3.4) as (fig, axes):
        few = len(errors) <= 30
        axes.semilogy(
            k, np.maximum(errors, SMALLEST), "o-" if few else "-", color=BLUE, markersize=4, label="error of V"
        )
        bound = errors[0] * float(gamma) ** k
        name = (
            f"{gamma:g} to the power k, times the first error" if gamma < 1 else "the first error (no bound at gamma 1)"
        )
        axes.semilogy(k, np.maximum(bound, SMALLEST), "--", color=ORANGE, linewidth=1.4, label=name)
        axes.set(xlabel=unit, ylabel="largest error of V")
        plain_numbers(axes.yaxis)
        axes.legend(frameon=False)
        axes.margins(x=0.01)
        axes.set_title(title)
        return save(fig, path)


def error(errors: Array, exact: Array | None, unit: str, title: str, path: Path, first: int = 0) -> Path:
    """The root of the mean squared error [K], with the exact curve dashed.

    Args:
        errors: over runs and states.
        exact: the same of the exact learning curve; None: it is not known.
        unit: what a step is.
        title: above the picture.
        path: the PNG file to write.
        first: the units after which the first error was measured.
    """
    with figure(6.4, 3.4) as (fig, axes):
        axes.plot(first + np.arange(len(errors)), errors, color=BLUE, label="runs")
        if exact is not None:
            axes.plot(first + np.arange(len(exact)), exact, "--", color=ORANGE, linewidth=1.4, label="exact")
        axes.set(xlabel=unit, ylabel="root of the mean squared error", ylim=(0, None))
        axes.legend(frameon=False)
        axes.margins(x=0.01)
        axes.set_title(title)
        return save(fig, path)


def bias(found: Array, spread: Array, times: Array, exact: Array | None, title: str, path: Path) -> Path:
    """The mean error [K] of the first state's estimates over runs after 1, 2, ... K episodes, with the exact mean at `times` dashed.

    Args:
        found, spread: the mean over runs, and its standard error; two of these are the band.
        times: numbers of episodes.
        exact: at each of `times`; None: it is not known.
        title: above the picture.
        path: the PNG file to write.
    """
    with figure(6.4, 3.4) as (fig, axes):
        k = np.arange(1, len(found) + 1)
        axes.plot(k, found, color=BLUE, label="runs")
        axes.fill_between(k, found - 2 * spread, found + 2 * spread, color=BLUE, alpha=0.25, linewidth=0)
        if exact is not None:
            axes.plot(times, exact, "--", color=ORANGE, linewidth=1.4, label="exact")
        axes.set(xscale="log", xlabel="episodes", ylabel="mean error of the start")
        plain_numbers(axes.xaxis)
        axes.legend(frameon=False)
        axes.set_title(title)
        return save(fig, path)


def regret(found: Array, batch: int, title: str, path: Path) -> Path:
    """How far the exact value of the learned policy is below the best one [K], after each batch of episodes.

    Args:
        batch: episodes of a run in each.
        title: above the picture.
        path: the PNG file to write.
    """
    with figure(6.4, 3.4) as (fig, axes):
        axes.plot(batch * np.arange(1, len(found) + 1), found, color=BLUE)
        axes.set(xscale="log", xlabel="episodes", ylabel="regret of the first run's policy", ylim=(0, None))
        plain_numbers(axes.xaxis)
        axes.set_title(title)
        return save(fig, path)


def returns(found: Array, best: float, block: int, title: str, path: Path) -> Path:
    """The expected return [K] of the greedy policies after each block of steps, with that of the best policy dashed.

    Args:
        best: of the best policy.
        block: steps of a run in each.
        title: above the picture.
        path: the PNG file to write.
    """
    with figure(6.4, 3.4) as (fig, axes):
        axes.plot(block * np.arange(1, len(found) + 1), found, color=BLUE, label="greedy policies, mean")
        axes.axhline(best, color=ORANGE, linestyle="--", linewidth=1.4, label="best policy")
        axes.set(xlabel="steps", ylabel="expected return")
        axes.legend(frameon=False)
        axes.margins(x=0.01)
        axes.set_title(title)
        return save(fig, path)
