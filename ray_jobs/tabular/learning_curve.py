"""The exact learning curve of online TD(0) and n-step TD: mean and second moment of the values after any number of episodes.

Source: Singh & Dayan 1998, doi:10.1023/A:1007495401240, for TD(0). A step from s to t with reward r maps the vector x = (V, 1) linearly
to A x, with A = I + alpha e_s (gamma e_t - e_s + r e_c)', where e_c is the place of the 1 and e_t is 0 at an end. The mean of the
product of these matrices over an episode from s is M(s) = sum over t of P(s, t) M(t) A(s, t); that of the second moment is the same with
A kron A.
Differs: with n steps, s is replaced by a window: the state and the n - 1 steps before it, whose states still wait for their update.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ray_jobs.tabular.draws import outcomes_of
from ray_jobs.tabular.mdp import MDP, Array, state_values


class Window(NamedTuple):
    """A state, and the earlier states of the episode that have not been updated, each with the reward that followed it."""

    waiting: tuple[tuple[int, float], ...]
    state: int


class Move(NamedTuple):
    """A step from one window to another."""

    probability: float
    after: Window | None
    """None where the episode ends."""
    matrix: Array
    """The updates that the step allows, of the vector (V, 1)."""


def exact_moments(
    mdp: MDP, policy: Array, alpha: float, values: Array, episodes: int, n: int = 1
) -> tuple[Array, Array]:
    """Means [K + 1, S] and second moments [K + 1, S, S] of the values after 0 to K episodes of online n-step TD.

    Args:
        mdp: whose episodes end for sure.
        policy: [S, A].
        alpha: step size.
        values: before the first episode, [S].
        episodes: K.
        n: steps; 1 is TD(0).
    """
    size = len(values) + 1
    moves, start = windows(mdp, policy, alpha, n), {Window((), int(s)): mdp.start[s] for s in np.flatnonzero(mdp.start)}
    one = episode(moves, start, size, lambda a: a)
    two = episode(moves, start, size**2, lambda a: np.kron(a, a))
    x = np.append(values, 1.0)
    means, seconds = [x], [np.kron(x, x)]
    for _ in range(episodes):
        means.append(one @ means[-1])
        seconds.append(two @ seconds[-1])
    return np.array(means)[:, :-1], np.array(seconds).reshape(-1, size, size)[:, :-1, :-1]


def exact_errors(mdp: MDP, policy: Array, alpha: float, initial: float, episodes: int, n: int = 1) -> Array:
    """The exact error after 0 to K episodes of n-step TD [K + 1]: the root of the mean square over runs and states.

    Args:
        initial: the value of every state before the first episode.
        mdp, policy, alpha, episodes, n: see `exact_moments`.
    """
    exact = state_values(mdp, policy)
    means, seconds = exact_moments(mdp, policy, alpha, np.full(len(exact), initial), episodes, n)
    squares = seconds[:, range(len(exact)), range(len(exact))] - 2 * means * exact + exact**2
    return np.sqrt(squares.mean(1))


def windows(mdp: MDP, policy: Array, alpha: float, n: int, most: int = 100_000) -> dict[Window, list[Move]]:
    """The moves from each window that an episode can be in; of more than `most` windows only the first ones."""
    probability, after, reward = outcomes_of(mdp)
    found: dict[Window, list[Move]] = {}
    waiting = [Window((), int(s)) for s in np.flatnonzero(mdp.start)]
    while waiting and len(found) <= most:
        here = waiting.pop()
        if here in found:
            continue
        chances = policy[here.state][:, None] * probability[here.state]
        found[here] = []
        for a, k in np.argwhere(chances > 0):
            past = (*here.waiting, (here.state, float(reward[here.state, a, k])))
            to = int(after[here.state, a, k])
            ends = to == len(mdp.start)
            matrix = updates(mdp, alpha, past, None if ends else to, n)
            there = None if ends else Window(past[1:] if len(past) == n else past, to)
            found[here].append(Move(float(chances[a, k]), there, matrix))
            waiting += [] if there is None else [there]
    return found


def updates(mdp: MDP, alpha: float, past: tuple[tuple[int, float], ...], to: int | None, n: int) -> Array:
    """The product [S + 1, S + 1] of the updates after a step: of the state n steps ago or, at the end (`to` is None), of all that wait."""
    whole = np.eye(len(mdp.start) + 1)
    if to is not None and len(past) < n:
        return whole
    for i in range(len(past) if to is None else 1):
        row = np.zeros(len(whole))
        row[-1] = sum(mdp.gamma**k * r for k, (_, r) in enumerate(past[i:]))
        row[past[i][0]] -= 1
        if to is not None:
            row[to] += mdp.gamma ** len(past)
        one = np.eye(len(whole))
        one[past[i][0]] += alpha * row
        whole = one @ whole
    return whole


def episode(
    moves: dict[Window, list[Move]], start: dict[Window, float], size: int, of: Callable[[Array], Array]
) -> Array:
    """The mean product of the steps' matrices over an episode, later ones on the left, by one linear solve.

    Each row m(w) of M(w) obeys m(w) = sum over moves of probability times m(after) of(matrix), and m = the row of the identity at the end.
    """
    place = {window: k * size for k, window in enumerate(moves)}
    system, known = np.eye(len(moves) * size), np.zeros((len(moves) * size, size))
    for window, at in place.items():
        here = slice(at, at + size)
        for move in moves[window]:
            matrix = move.probability * of(move.matrix).T
            if move.after is None:
                known[here] += matrix
            else:
                there = place[move.after]
                system[here, there : there + size] -= matrix
    rows = np.linalg.solve(system, known)
    return np.sum([chance * rows[place[w] : place[w] + size].T for w, chance in start.items()], axis=0)
