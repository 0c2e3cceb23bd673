"""PPO swings up a two-link arm."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "PPO", "Acrobot-v1"
headline = Headline("Schulman et al. 2017", arxiv="1707.06347", metric="episode_return")
claim = Claim("episode_return", at_least=-85, seeds=5)
space = {"lr": "loguniform(1e-4,3e-3)", "entropy_weight": "choice(0.0,0.01)"}


def recipe(
    *,
    steps: int = 500_000,
    envs: int = 16,
    lr: float = 1e-3,
    clip: float = 0.2,
    entropy_weight: float = 0.0,
) -> Play:
    """Observations are normalised, as in stable-baselines3's zoo, whose result is -73.5 after a million steps.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        lr: Adam's step size, falling linearly to 0.
        clip: how far the probability ratio may move from 1, falling linearly to 0.
        entropy_weight: weight of the entropy bonus.
    """
    from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO

    algorithm = PPO(
        horizon=128, epochs=4, minibatches=8, lr=lr, anneal=True, clip=clip, lam=0.94, entropy_weight=entropy_weight
    )
    return Play(algorithm, "Acrobot-v1", steps=steps, envs=envs, normalize_obs=True)
