"""The deadly triad: linear values, bootstrapped, off-policy. Any two of the three are safe; all three can diverge.

A process learns an example by one method in many runs at once, beside the exact mean of its weights, which is linear algebra.

Source: Sutton & Barto 2018, chapter 11; Baird 1995; Tsitsiklis & Van Roy 1996.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ray_jobs.recipe.process import Crew, State, generator
from ray_jobs.recipe.ranges import Count, NotNegative, Positive, Share
from ray_jobs.tabular.approximation import updates
from ray_jobs.tabular.approximation.examples import Example, baird, two_states
from ray_jobs.tabular.draws import place
from ray_jobs.tabular.mdp import Array

SHARD = 2_000
"""Runs of a shard."""


@dataclass(frozen=True)
class Triad:
    """One cell of the triad, or one cure."""

    example: Literal["baird", "two_states"] = "baird"
    """Baird's seven states, or Tsitsiklis and Van Roy's two."""
    method: Literal["td", "monte_carlo", "residual", "tdc", "slow_target", "emphatic"] = "td"
    """Semi-gradient TD(0), Monte Carlo targets, residual gradients, gradient TD with correction, a slow target network, emphatic TD."""
    features: Literal["linear", "table"] = "linear"
    """The example's features, or a weight for each state."""
    policy: Literal["off", "on"] = "off"
    """Whether the policy that acts is another one than that whose values are learned."""
    gamma: Share = 0.99
    """Discount."""
    alpha: Positive = 0.01
    """Step size of the weights."""
    beta: NotNegative = 0.05
    """Step size of the second weights of tdc."""
    refresh: Count = 100
    """Updates between copies of the weights into the slow target."""
    walk: bool = True
    """Learn along the walk of the policy that acts; otherwise each update draws its state independently."""
    expected: bool = False
    """Make the mean of all updates in place of drawn ones; there is then one run."""
    runs: Count = 20_000
    """Runs at once."""
    block: Count = 10
    """Updates of a step."""

    unit = "block"

    @property
    def whole(self) -> Example:
        """The example as it is in the literature: linear and off-policy."""
        return baird(self.gamma) if self.example == "baird" else two_states(self.gamma)

    @property
    def problem(self) -> Example:
        """The example, as this cell has it."""
        found = self.whole.tabular() if self.features == "table" else self.whole
        return found.on_policy() if self.policy == "on" else found

    @property
    def cells(self) -> dict[tuple[bool, bool, bool], float]:
        """The growth in each of the example's eight cells."""
        return updates.eight_cells(self.whole, self.alpha)

    def begin(self, seed: int) -> State:
        """All runs at the example's first weights.

        Raises:
            ValueError: walks do not visit the example's states as often as it says; one sentence.
        """
        problem = self.problem
        if self.walk and not problem.walks:
            raise ValueError(f"The states of {self.example} are drawn for each update: give --walk false.")
        z, runs = updates.begin(problem, self.method), 1 if self.expected else self.runs
        places = np.arange(len(problem.visits))
        start = generator(seed, 0, 2**31).choice(places, runs, p=problem.visits)
        w = z[: problem.features.shape[1]]
        value, projected = updates.errors(problem, w)
        return {
            "z": np.tile(z, (runs, 1)),
            "place": start.astype(np.int64),
            "exact": problem.visits[:, None] * z,
            "weights": w[None].copy(),
            "exact_weights": w[None].copy(),
            "value_errors": np.array([value]),
            "projected_errors": np.array([projected]),
        }

    def advance(self, state: State, step: int, seed: int, crew: Crew) -> dict[str, float]:
        """The next `block` updates of every run, and of their exact mean."""
        problem = self.problem
        exact, n = self.means(problem, state["exact"], step * self.block), problem.features.shape[1]
        if self.expected:
            z, place_ = exact.sum(0)[None], state["place"]
        else:
            work = functools.partial(walked, self, seed, step)
            parts = [(k, state["z"][k : k + SHARD], state["place"][k : k + SHARD]) for k in range(0, self.runs, SHARD)]
            z, place_ = (np.concatenate(part) for part in zip(*crew.map(work, parts), strict=True))
        value, projected = updates.errors(problem, z[:, :n])
        state |= {"z": z, "place": place_, "exact": exact}
        for name, new in {
            "weights": z[:, :n].mean(0)[None],
            "exact_weights": exact.sum(0)[None, :n],
            "value_errors": [np.square(value).mean() ** 0.5],
            "projected_errors": [np.square(projected).mean() ** 0.5],
        }.items():
            state[name] = np.concatenate([state[name], new])
        return {
            "value_error": float(state["value_errors"][-1]),
            "projected_error": float(state["projected_errors"][-1]),
        }

    def means(self, problem: Example, exact: Array, first: int) -> Array:
        """The exact mean of z by the place of the run, E[z; s] [S, m], after the next block of updates, of which `first` came before.

        Along a walk the weights depend on where it is: E'[z; t] = sum over s of P_b(s, t) (I + L(s, t)) E[z; s].
        """
        step, n = updates.steps(problem, self.method, self.alpha, self.beta), problem.features.shape[1]
        onwards = problem.behaviour[..., None, None] * (step + np.eye(exact.shape[1]))
        anywhere = updates.expected(problem, step)
        for k in range(first, first + self.block):
            if self.walk:
                exact = np.einsum("stij,sj->ti", onwards, exact)
            else:
                exact = problem.visits[:, None] * (anywhere @ exact.sum(0))
            if self.method == "slow_target" and (k + 1) % self.refresh == 0:
                exact = updates.refreshed(exact, n)
        return exact

    def result(self, state: State, seed: int, crew: Crew) -> dict[str, float]:
        """The errors at the end, the growth of the expected updates, and how many of the eight cells diverge.

        z, where anything is drawn: the most standard errors, over the weights, between their mean over runs and their exact mean.
        """
        problem = self.problem
        growth = updates.growth(problem, self.method, self.alpha, self.beta, self.refresh)
        found = {
            "value_error": float(state["value_errors"][-1]),
            "projected_error": float(state["projected_errors"][-1]),
            "growth": growth,
            "diverges": float(updates.diverges(growth)),
            "divergent_cells": float(sum(map(updates.diverges, self.cells.values()))),
        }
        if self.expected or self.runs < 2:
            return found
        n = problem.features.shape[1]
        w, exact = state["z"][:, :n], state["exact"].sum(0)[:n]
        error, apart = w.std(0, ddof=1) / len(w) ** 0.5, np.abs(w.mean(0) - exact)
        moved = error > updates.ROUNDING * np.abs(exact).max()
        return found | ({"z": float((apart[moved] / error[moved]).max())} if moved.any() else {})

    def pictures(self, state: State, folder: Path) -> None:
        """weights.png, error.png and cells.png."""
        from ray_jobs.tabular.approximation import pictures

        title = f"{self.example}: {self.method}, {self.features} values, {self.policy}-policy"
        pictures.weights(state["weights"], state["exact_weights"], self.block, title, folder / "weights.png")
        pictures.errors(state["value_errors"], state["projected_errors"], self.block, title, folder / "error.png")
        pictures.cells(self.cells, self.example, folder / "cells.png")


def walked(
    of: Triad, seed: int, step: int, part: tuple[int, Array, NDArray[np.int64]]
) -> tuple[Array, NDArray[np.int64]]:
    """z [R, m] and the places [R] of a shard's runs after the next block of updates.

    Args:
        part: number of the shard's first run, its z and its places.
    """
    (first, z, s), problem = part, of.problem
    z, rng, n = z.copy(), generator(seed, step + 1, first), problem.features.shape[1]
    step_of = updates.steps(problem, of.method, of.alpha, of.beta)
    visits, edges = problem.visits.cumsum()[None, :-1], problem.behaviour.cumsum(1)[:, :-1]
    for k in range(step * of.block, (step + 1) * of.block):
        s = s if of.walk else place(visits, rng.random(len(z)))
        t = place(edges[s], rng.random(len(z)))
        for i, j in sorted(set(zip(s.tolist(), t.tolist(), strict=True))):
            here = (s == i) & (t == j)
            z[here] += z[here] @ step_of[i, j].T
        if of.method == "slow_target" and (k + 1) % of.refresh == 0:
            z = updates.refreshed(z, n)
        s = t
    return z, s
