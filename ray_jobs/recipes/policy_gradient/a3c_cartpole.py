"""A3C balances a pole on a cart, from gradients that its runners send."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "A3C", "CartPole-v1"
headline = Headline("Mnih et al. 2016", arxiv="1602.01783", metric="episode_return")
claim = Claim("episode_return", at_least=475, seeds=5)
space = {"lr": "loguniform(5e-4,5e-3)", "horizon": "choice(5,8,16)"}


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
    """Asynchronous with `--runners 2` or more: how many updates a gradient is behind is logged as policy_lag. A random policy scores
    about 22, the best possible one 500.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment for one gradient.
        lr: step size, falling linearly to 0.
        gamma: discount.
        entropy_weight: weight of the entropy bonus.
        use_rmsprop: RMSProp with common statistics, as in the paper; else Adam.
        width: units in each of two hidden layers.
    """
    from ray_jobs.rl.algorithms.policy_gradient.a3c import A3C

    algorithm = A3C(
        horizon=horizon, lr=lr, gamma=gamma, entropy_weight=entropy_weight, use_rmsprop=use_rmsprop, width=width
    )
    return Play(algorithm, "CartPole-v1", steps=steps, envs=envs)
