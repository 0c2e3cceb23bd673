"""TRPO swings up a pendulum; a random policy scores about -1200."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "TRPO", "Pendulum-v1"
headline = Headline("Schulman et al. 2015", arxiv="1502.05477", metric="episode_return")
claim = Claim("episode_return", at_least=-200, seeds=5)
space = {"max_kl": "loguniform(3e-3,5e-2)", "damping": "loguniform(1e-2,3e-1)", "lr": "loguniform(3e-4,3e-3)"}


def recipe(
    *,
    steps: int = 400_000,
    envs: int = 16,
    horizon: int = 200,
    max_kl: float = 0.015,
    damping: float = 0.1,
    gamma: float = 0.95,
    lam: float = 0.95,
    lr: float = 1e-3,
    value_epochs: int = 10,
) -> Play:
    """With a short discount, for the pendulum answers at once, and rewards scaled, for its values reach the hundreds.

    Measured over seeds 0 to 4: -152 to -183. Stable-baselines3's zoo has -175 with state-dependent exploration.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment between updates.
        max_kl: how far the policy may move in one update, in nats.
        damping: added to the Fisher matrix.
        gamma: discount.
        lam: GAE's lambda.
        lr: Adam's step size for the value.
        value_epochs: passes over each batch to fit the value, in 8 parts.
    """
    from ray_jobs.rl.algorithms.policy_gradient.trpo import TRPO

    algorithm = TRPO(
        horizon=horizon,
        max_kl=max_kl,
        damping=damping,
        gamma=gamma,
        lam=lam,
        lr=lr,
        value_epochs=value_epochs,
        minibatches=8,
    )
    return Play(algorithm, "Pendulum-v1", steps=steps, envs=envs, normalize_obs=True, normalize_reward=True)
