"""The exact bias of every-visit Monte Carlo estimates, after any number of episodes.

Source: Sutton & Barto 2018, section 5.1: first-visit estimates are unbiased, every-visit ones only in the limit.

An estimate is N / C, with N the sum of the returns after the visits of a state in n episodes, and C the number of these visits. Because
1 / C is the integral of t^(C - 1) over t from 0 to 1, its mean is the integral of n E[N1 t^(C1 - 1)] E[t^C1]^(n - 1), where N1 and C1
are of one episode. Both means solve linear equations; the integral is computed by Gauss-Legendre quadrature.
"""

from __future__ import annotations

import numpy as np

from ray_jobs.tabular.draws import outcomes_of
from ray_jobs.tabular.mdp import MDP, Array, state_transitions, state_values

POINTS = 200
"""Of the integral over t from 0 to 1."""


def every_visit_bias(mdp: MDP, target: Array, behaviour: Array, episodes: Array) -> Array:
    """The mean [K] of (estimate - value) of the first state, over runs of n episodes; runs that have not visited a state count as 0.

    Of several first states it is the mean by their probabilities.

    Args:
        mdp: whose episodes end for sure.
        target: the policy [S, A] whose values are estimated, with ordinary importance weights.
        behaviour: the policy [S, A] that plays.
        episodes: K values of n.
    """
    t, weights = np.polynomial.legendre.leggauss(POINTS)
    t, weights = (t + 1) / 2, weights / 2
    firsts = np.flatnonzero(mdp.start)
    parts = [[_integrand(mdp, target, behaviour, episodes, int(s), x) for x in t] for s in firsts]
    return np.einsum("s,t,stk->k", mdp.start[firsts], weights, np.array(parts))


def _integrand(mdp: MDP, target: Array, behaviour: Array, n: Array, s: int, t: float) -> Array:
    """n E[(N1 - V C1) t^(C1 - 1)] E[t^C1]^(n - 1) of state s."""
    states = len(mdp.start)
    factor = np.where(np.arange(states) == s, t, 1.0)[:, None]
    plays, follows = (factor * state_transitions(mdp, policy) for policy in (behaviour, target))
    eye = np.eye(states)
    visits = np.linalg.solve(eye - plays, factor[:, 0] * _ending(mdp, behaviour))  # E[t^C1] from each state
    weighted = np.linalg.solve(eye - follows, factor[:, 0] * _ending(mdp, target))  # the same, with importance weights
    # b: E[rho (the return from here) t^C1]; a: E[(N1 - V C1) t^C1]; both from each state
    b = np.linalg.solve(eye - mdp.gamma * follows, factor[:, 0] * _paid(mdp, target, weighted))
    value = state_values(mdp, target)[s]
    a = np.linalg.solve(eye - plays, (np.arange(states) == s) * (b - value * visits))
    return n * float(mdp.start @ a) / t * float(mdp.start @ visits) ** (n - 1)


def _ending(mdp: MDP, policy: Array) -> Array:
    """The probability [S] that the next step ends the episode."""
    return 1 - state_transitions(mdp, policy).sum(-1)


def _paid(mdp: MDP, policy: Array, following: Array) -> Array:
    """The mean [S] of the next reward times what `following` [S] is of the state that comes after, 1 at an end."""
    probability, after, reward = outcomes_of(mdp)
    return (policy * (probability * reward * np.append(following, 1.0)[after]).sum(-1)).sum(-1)
