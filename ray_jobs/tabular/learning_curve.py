"""The exact learning curve of online TD(0): mean and second moment of its values after any number of episodes.

Source: Singh & Dayan 1998, doi:10.1023/A:1007495401240. A step from s to t with reward r maps the vector x = (V, 1) linearly to A x, with
A = I + alpha e_s (gamma e_t - e_s + r e_c)', where e_c is the place of the 1 and e_t is 0 at an end. The mean of the product of
these matrices over an episode from s is M(s) = sum over t of P(s, t) M(t) A(s, t); that of the second moment is the same with A kron A.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ray_jobs.tabular.mdp import MDP, Array


def exact_moments(mdp: MDP, policy: Array, alpha: float, values: Array, episodes: int) -> tuple[Array, Array]:
    """Means [K + 1, S] and second moments [K + 1, S, S] of the values after 0 to K episodes of online TD(0).

    Args:
        mdp: whose episodes end for sure; rewards are the mean ones of state and action.
        policy: [S, A].
        alpha: step size.
        values: before the first episode, [S].
        episodes: K.
    """
    size = len(values) + 1
    one = episode(mdp, policy, lambda s, a, t: step(mdp, alpha, s, a, t))
    two = episode(mdp, policy, lambda s, a, t: np.kron(*[step(mdp, alpha, s, a, t)] * 2))
    x = np.append(values, 1.0)
    means, seconds = [x], [np.kron(x, x)]
    for _ in range(episodes):
        means.append(one @ means[-1])
        seconds.append(two @ seconds[-1])
    return np.array(means)[:, :-1], np.array(seconds).reshape(-1, size, size)[:, :-1, :-1]


def step(mdp: MDP, alpha: float, s: int, a: int, t: int | None) -> Array:
    """A [S + 1, S + 1] of one step; t is None where the episode ends."""
    size = len(mdp.start) + 1
    found, row = np.eye(size), np.zeros(size)
    row[s], row[-1] = -1, mdp.reward[s, a]
    if t is not None:
        row[t] += mdp.gamma
    found[s] += alpha * row
    return found


def episode(mdp: MDP, policy: Array, matrix: Callable[[int, int, int | None], Array]) -> Array:
    """The mean product of the steps' matrices over an episode, later ones on the left, by one linear solve.

    Each row m(s) of M(s) obeys m(s) = sum over t of P(s, t) m(t) A(s, t), and m = the row of the identity at the end.
    """
    states, actions = mdp.reward.shape
    size = len(matrix(0, 0, None))
    system, known = np.eye(states * size), np.zeros((states * size, size))
    for s in range(states):
        here = slice(s * size, (s + 1) * size)
        for a in range(actions):
            for t in np.flatnonzero(mdp.transition[s, a]):
                there = slice(t * size, (t + 1) * size)
                system[here, there] -= policy[s, a] * mdp.transition[s, a, t] * matrix(s, a, int(t)).T
            known[here] += policy[s, a] * (1 - mdp.transition[s, a].sum()) * matrix(s, a, None).T
    rows = np.linalg.solve(system, known).reshape(states, size, size)
    return np.einsum("s,sji->ij", mdp.start, rows)
