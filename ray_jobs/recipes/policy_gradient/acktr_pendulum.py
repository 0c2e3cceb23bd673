"""ACKTR swings up a pendulum; a random policy scores about -1200."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "ACKTR", "Pendulum-v1"
headline = Headline("Wu et al. 2017", arxiv="1708.05144", metric="episode_return")
claim = Claim("episode_return", at_least=-350, seeds=5)
space = {"lr": "loguniform(5e-2,1.0)", "max_kl": "loguniform(3e-4,1e-2)", "damping": "loguniform(1e-3,1e-1)"}


def recipe(
    *,
    steps: int = 200_000,
    envs: int = 16,
    horizon: int = 20,
    lr: float = 0.25,
    max_kl: float = 3e-3,
    damping: float = 1e-2,
    gamma: float = 0.9,
    lam: float = 0.95,
) -> Play:
    """Without an entropy bonus, and with a short discount: the pendulum answers at once.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment between updates.
        lr: step size of the policy at most, at the start; it falls to 0.
        max_kl: how far a step may move the policy, in nats.
        damping: added to the Fisher matrices.
        gamma: discount.
        lam: GAE's lambda.
    """
    from ray_jobs.rl.algorithms.policy_gradient.acktr import ACKTR

    algorithm = ACKTR(horizon=horizon, lr=lr, max_kl=max_kl, damping=damping, gamma=gamma, lam=lam, entropy_weight=0.0)
    return Play(algorithm, "Pendulum-v1", steps=steps, envs=envs, normalize_obs=True, normalize_reward=True)
