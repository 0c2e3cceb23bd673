"""IMPALA balances a pole on a cart, from fragments as they arrive."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "IMPALA", "CartPole-v1"
headline = Headline("Espeholt et al. 2018", arxiv="1802.01561", metric="episode_return")
claim = Claim("episode_return", at_least=400, seeds=5)
space = {"lr": "loguniform(3e-4,1e-2)", "entropy_weight": "choice(0.0,0.003,0.01)"}


def recipe(
    *,
    steps: int = 500_000,
    envs: int = 8,
    horizon: int = 16,
    lr: float = 1e-3,
    gamma: float = 0.98,
    entropy_weight: float = 0.001,
    stop_return: float = 475.0,
) -> Play:
    """One gradient step per fragment.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment in a fragment.
        lr: Adam's step size, falling linearly to 0.
        gamma: discount.
        entropy_weight: weight of the entropy bonus.
        stop_return: stop once 100 training episodes average this; more than 500 never stops early.
    """
    from ray_jobs.rl.algorithms.policy_gradient.impala import IMPALA

    algorithm = IMPALA(horizon=horizon, lr=lr, gamma=gamma, entropy_weight=entropy_weight)
    return Play(algorithm, "CartPole-v1", steps=steps, envs=envs, stop_return=stop_return)
