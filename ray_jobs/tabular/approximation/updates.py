"""Updates of linear values, each as a matrix: z + L z is what a step from s to t makes of the weights and what goes with them.

All rewards are 0, so every update is linear in z: the weights w [n], and for some methods n more numbers. x and x' are the features of
s and t, rho is the importance ratio of the step.

Source: Sutton & Barto 2018, chapter 11, with the equation numbers below.
"""

from __future__ import annotations

import numpy as np

from ray_jobs.tabular.approximation.examples import Example
from ray_jobs.tabular.mdp import Array

ROUNDING = 1e-9
"""A growth above 1 by no more than this is rounding: some weights of the examples never change."""
METHODS = ("td", "monte_carlo", "residual", "tdc", "slow_target", "emphatic")


def steps(example: Example, method: str, alpha: float, beta: float) -> Array:
    """L [S, S, m, m] of every step from s to t.

    Args:
        alpha: step size of w.
        beta: step size of the second weights of TDC.

    - td: semi-gradient TD(0), eq. 11.2.
    - monte_carlo: towards the return, which is 0.
    - residual: the slope of the squared error by both values, section 11.5.
    - tdc: gradient TD with a correction, section 11.7.
    - slow_target: semi-gradient TD(0) towards the values of a copy of the weights, the second half of z.
    - emphatic: semi-gradient TD(0), whose steps are weighed by the emphasis that they have on average, section 11.8.
    """
    x, after, rho = example.features, example.gamma * example.features, example.ratio[..., None, None]
    now = outer(x[:, None], x[:, None])
    ahead = outer(x[:, None], after[None])
    zero = np.zeros_like(ahead)
    if method == "td":
        return alpha * rho * (ahead - now)
    if method == "monte_carlo":
        return alpha * np.broadcast_to(-now, ahead.shape)
    if method == "residual":
        error = after[None] - x[:, None]
        return -alpha * rho * outer(error, error)
    if method == "emphatic":
        return alpha * emphasis(example)[:, None, None, None] * rho * (ahead - now)
    if method == "slow_target":
        return join([[-alpha * rho * now, alpha * rho * ahead], [zero, zero]])
    correction = outer(after[None], x[:, None])
    return join(
        [[alpha * rho * (ahead - now), -alpha * rho * correction], [beta * rho * (ahead - now), -beta * rho * now]]
    )


def outer(a: Array, b: Array) -> Array:
    """a b' of the last dimensions, the others broadcast."""
    return a[..., :, None] * b[..., None, :]


def join(blocks: list[list[Array]]) -> Array:
    """A matrix of blocks [S, S, n, n]."""
    shape = np.broadcast_shapes(*(block.shape for row in blocks for block in row))
    return np.concatenate([np.concatenate([np.broadcast_to(b, shape) for b in row], -1) for row in blocks], -2)


def emphasis(example: Example) -> Array:
    """The mean emphasis of a step from each state [S], with an interest of 1 everywhere: (I - gamma P_pi')^-1 d, for each visit.

    Source: Sutton, Mahmood & White 2016, arXiv:1503.04269, section 5.
    """
    follow = np.linalg.solve(np.eye(len(example.visits)) - example.gamma * example.target.T, example.visits)
    return np.divide(follow, example.visits, out=np.zeros_like(follow), where=example.visits > 0)


def begin(example: Example, method: str) -> Array:
    """The first z [m]: a copy of the weights for slow_target, zeros for the second weights of TDC."""
    w = example.begin
    second = {"slow_target": w, "tdc": np.zeros_like(w)}.get(method)
    return w.copy() if second is None else np.concatenate([w, second])


def refreshed(z: Array, n: int) -> Array:
    """z [*, 2n] after its weights have been copied into the slow target."""
    return np.concatenate([z[..., :n], z[..., :n]], -1)


def expected(example: Example, step: Array) -> Array:
    """M [m, m]: what one update does on average, for states drawn independently each time: I + the mean of L over d and P_b."""
    weight = example.visits[:, None] * example.behaviour
    return np.eye(step.shape[-1]) + np.einsum("st,stij->ij", weight, step)


def growth(example: Example, method: str, alpha: float, beta: float, refresh: int = 1) -> float:
    """The largest factor, for each update, by which expected updates multiply a part of z in the long run; above 1 they diverge."""
    m = expected(example, steps(example, method, alpha, beta))
    if method == "slow_target":
        n = example.features.shape[1]
        copy = np.kron([[1, 0], [1, 0]], np.eye(n))
        return float(np.abs(np.linalg.eigvals(copy @ np.linalg.matrix_power(m, refresh))).max() ** (1 / refresh))
    return float(np.abs(np.linalg.eigvals(m)).max())


def diverges(factor: float) -> bool:
    """Whether a growth is above 1 by more than rounding."""
    return factor > 1 + ROUNDING


def eight_cells(example: Example, alpha: float) -> dict[tuple[bool, bool, bool], float]:
    """(linear, bootstrapped, off-policy) -> the growth of its expected updates."""
    found = {}
    for linear in (False, True):
        for bootstrapped in (False, True):
            for off in (False, True):
                cell = example if linear else example.tabular()
                cell = cell if off else cell.on_policy()
                found[linear, bootstrapped, off] = growth(cell, "td" if bootstrapped else "monte_carlo", alpha, 0.0)
    return found


def fitted(example: Example) -> Array:
    """The matrix [n, n] that one sweep of fitted values multiplies the weights with: the least squares of x w towards gamma P_pi x w."""
    root = np.sqrt(example.visits)[:, None]
    return np.linalg.lstsq(
        root * example.features, root * (example.gamma * example.target @ example.features), rcond=None
    )[0]


def errors(example: Example, w: Array) -> tuple[Array, Array]:
    """Roots of the mean squared value error and of the mean squared projected Bellman error, of weights [*, n].

    Source: Sutton & Barto 2018, eq. 9.1 and section 11.4.
    """
    x, root = example.features, np.sqrt(example.visits)
    values = w @ x.T
    bellman = example.gamma * values @ example.target.T - values
    fit = np.linalg.lstsq(root[:, None] * x, (bellman * root).reshape(-1, len(root)).T, rcond=None)[0]
    projected = (x @ fit).T.reshape(bellman.shape)
    return np.sqrt((values**2 * example.visits).sum(-1)), np.sqrt((projected**2 * example.visits).sum(-1))
