"""Actor-critic with a critic of actions balances a pole on a cart."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "QAC", "CartPole-v1"
headline = Headline("Sutton et al. 2000", metric="episode_return", where="theorem 1")
claim = Claim("episode_return", at_least=475, seeds=5)
space = {"lr": "loguniform(2e-4,2e-3)", "critic_lr": "loguniform(2e-3,3e-2)"}


def recipe(
    *,
    steps: int = 1_500_000,
    envs: int = 128,
    horizon: int = 8,
    lr: float = 5e-4,
    critic_lr: float = 1e-2,
    gamma: float = 0.98,
    width: int = 64,
) -> Play:
    """A random policy scores about 22, the best possible one 500. Without a baseline only a large batch tells actions apart: both have
    a Q near 50 once the pole stands.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment between updates.
        lr: Adam's step size for the policy, falling linearly to 0.
        critic_lr: Adam's step size for Q.
        gamma: discount.
        width: units in each of two hidden layers.
    """
    from ray_jobs.rl.algorithms.policy_gradient.actor_critic import QAC

    algorithm = QAC(horizon=horizon, lr=lr, critic_lr=critic_lr, gamma=gamma, width=width)
    return Play(algorithm, "CartPole-v1", steps=steps, envs=envs)
