"""A2C plays Pong from pixels, at the paper's scale; needs ale-py."""

from ray_jobs.recipe.plan import Headline, Play

system, data = "A2C", "ALE/Pong-v5"
headline = Headline("Mnih et al. 2016", arxiv="1602.01783", metric="episode_return")
claim = None


def recipe(
    *,
    steps: int = 10_000_000,
    envs: int = 16,
    horizon: int = 5,
    lr: float = 7e-4,
    gamma: float = 0.99,
    value_weight: float = 0.25,
    entropy_weight: float = 0.01,
) -> Play:
    """The settings of stable-baselines3's zoo, whose benchmark reports 17.3 for one seed of PongNoFrameskip-v4, a game without sticky
    actions, played by chance too; a random policy scores about -21. The step size falls to 0, as in the paper.

    Args:
        steps: environment steps of 4 frames, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment between updates.
        lr: RMSProp's step size at the start.
        gamma: discount.
        value_weight: weight of the value loss.
        entropy_weight: weight of the entropy bonus.
    """
    from ray_jobs.rl.algorithms.policy_gradient.a2c import A2C

    algorithm = A2C(horizon=horizon, lr=lr, gamma=gamma, value_weight=value_weight, entropy_weight=entropy_weight)
    return Play(
        algorithm, "ALE/Pong-v5", steps=steps, envs=envs, eval_episodes=30, save_every=500_000, log_every=20_000
    )
