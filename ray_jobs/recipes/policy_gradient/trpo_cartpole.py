"""TRPO balances a pole on a cart; a random policy scores about 22."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "TRPO", "CartPole-v1"
headline = Headline("Schulman et al. 2015", arxiv="1502.05477", metric="episode_return")
claim = Claim("episode_return", at_least=475, seeds=5)
space = {"max_kl": "loguniform(3e-3,5e-2)", "damping": "loguniform(1e-2,3e-1)", "lam": "choice(0.9,0.95,0.98)"}


def recipe(
    *,
    steps: int = 150_000,
    envs: int = 8,
    horizon: int = 128,
    max_kl: float = 0.01,
    damping: float = 0.1,
    gamma: float = 0.99,
    lam: float = 0.95,
    lr: float = 1e-3,
    value_epochs: int = 10,
    stop_return: float = 475.0,
) -> Play:
    """A batch of 1024 steps for each natural step. Stable-baselines3's zoo has 500.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment between updates.
        max_kl: how far the policy may move in one update, in nats.
        damping: added to the Fisher matrix.
        gamma: discount.
        lam: GAE's lambda.
        lr: Adam's step size for the value.
        value_epochs: passes over each batch to fit the value.
        stop_return: stop once 100 training episodes average this; more than 500 never stops early.
    """
    from ray_jobs.rl.algorithms.policy_gradient.trpo import TRPO

    algorithm = TRPO(
        horizon=horizon, max_kl=max_kl, damping=damping, gamma=gamma, lam=lam, lr=lr, value_epochs=value_epochs
    )
    return Play(algorithm, "CartPole-v1", steps=steps, envs=envs, stop_return=stop_return)
