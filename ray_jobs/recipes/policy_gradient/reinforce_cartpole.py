"""REINFORCE with a baseline balances a pole on a cart."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "REINFORCE", "CartPole-v1"
headline = Headline("Williams 1992", metric="episode_return", where="doi:10.1007/BF00992696")
claim = Claim("episode_return", at_least=475, seeds=5)
space = {"lr": "loguniform(1e-3,3e-2)", "horizon": "choice(125,250,500)"}


def recipe(
    *,
    steps: int = 1_000_000,
    envs: int = 16,
    horizon: int = 250,
    tail: int = 500,
    baseline: bool = True,
    lr: float = 1e-2,
    gamma: float = 0.99,
    width: int = 64,
) -> Play:
    """A random policy scores about 22, the best possible one 500. Whole returns cost steps: two in three only complete the third's.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment that an update learns from.
        tail: steps after those that complete their returns; no episode is longer than 500.
        baseline: subtract a learned V(s) from the returns.
        lr: Adam's step size, falling linearly to 0.
        gamma: discount.
        width: units in each of two hidden layers.
    """
    from ray_jobs.rl.algorithms.policy_gradient.reinforce import REINFORCE

    algorithm = REINFORCE(horizon=horizon, tail=tail, baseline=baseline, lr=lr, gamma=gamma, width=width)
    return Play(algorithm, "CartPole-v1", steps=steps, envs=envs)
