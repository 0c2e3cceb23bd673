"""ACKTR balances a pole on a cart; a random policy scores about 22, stable-baselines 2 in its zoo 487.6."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "ACKTR", "CartPole-v1"
headline = Headline("Wu et al. 2017", arxiv="1708.05144", metric="episode_return")
claim = Claim("episode_return", at_least=475, seeds=5)
space = {"lr": "loguniform(5e-2,1.0)", "max_kl": "loguniform(3e-4,1e-2)", "damping": "loguniform(1e-3,1e-1)"}


def recipe(
    *,
    steps: int = 150_000,
    envs: int = 16,
    horizon: int = 20,
    lr: float = 0.25,
    max_kl: float = 1e-3,
    damping: float = 1e-2,
    gamma: float = 0.99,
    entropy_weight: float = 0.01,
    stop_return: float = 475.0,
) -> Play:
    """One step for 320 new steps.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment between updates.
        lr: step size of the policy at most, at the start; it falls to 0.
        max_kl: how far a step may move the policy, in nats.
        damping: added to the Fisher matrices.
        gamma: discount.
        entropy_weight: weight of the entropy bonus.
        stop_return: stop once 100 training episodes average this; more than 500 never stops early.
    """
    from ray_jobs.rl.algorithms.policy_gradient.acktr import ACKTR

    algorithm = ACKTR(
        horizon=horizon, lr=lr, max_kl=max_kl, damping=damping, gamma=gamma, entropy_weight=entropy_weight
    )
    return Play(algorithm, "CartPole-v1", steps=steps, envs=envs, stop_return=stop_return)
