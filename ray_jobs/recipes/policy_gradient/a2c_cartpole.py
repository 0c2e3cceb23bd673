"""A2C balances a pole on a cart."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "A2C", "CartPole-v1"
headline = Headline("Mnih et al. 2016", arxiv="1602.01783", metric="episode_return")
claim = Claim("episode_return", at_least=475, seeds=5)
space = {"lr": "loguniform(5e-4,5e-3)", "horizon": "choice(5,8,16)", "use_rmsprop": "choice(true,false)"}


def recipe(
    *,
    steps: int = 400_000,
    envs: int = 16,
    horizon: int = 5,
    lr: float = 2e-3,
    gamma: float = 0.99,
    entropy_weight: float = 0.0,
    use_rmsprop: bool = True,
    width: int = 64,
) -> Play:
    """Near the settings of stable-baselines3's zoo, which reports 500 after 500,000 steps of one seed; there the step size does not fall.
    A random policy scores about 22.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment between updates.
        lr: step size, falling linearly to 0.
        gamma: discount.
        entropy_weight: weight of the entropy bonus.
        use_rmsprop: RMSProp, as in the paper; else Adam.
        width: units in each of two hidden layers.
    """
    from ray_jobs.rl.algorithms.policy_gradient.a2c import A2C

    algorithm = A2C(
        horizon=horizon, lr=lr, gamma=gamma, entropy_weight=entropy_weight, use_rmsprop=use_rmsprop, width=width
    )
    return Play(algorithm, "CartPole-v1", steps=steps, envs=envs)
