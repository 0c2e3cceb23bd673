"""TRPO hops, at the paper's scale; needs the mujoco package."""

from ray_jobs.recipe.plan import Headline, Play

system, data = "TRPO", "Hopper-v5"
headline = Headline("Schulman et al. 2015", arxiv="1502.05477", metric="episode_return", where="figure 4")
claim = None
space = {"max_kl": "loguniform(3e-3,5e-2)", "damping": "loguniform(1e-2,3e-1)", "lr": "loguniform(3e-4,3e-3)"}


def recipe(
    *,
    steps: int = 1_000_000,
    envs: int = 16,
    horizon: int = 64,
    max_kl: float = 0.01,
    damping: float = 0.1,
    gamma: float = 0.99,
    lam: float = 0.95,
    lr: float = 1e-3,
    value_epochs: int = 20,
) -> Play:
    """The settings of Tianshou's benchmark, whose ten seeds reached 2046 on Hopper-v3 in as many steps.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment between updates.
        max_kl: how far the policy may move in one update, in nats.
        damping: added to the Fisher matrix.
        gamma: discount.
        lam: GAE's lambda.
        lr: Adam's step size for the value at the start, falling linearly to 0.
        value_epochs: gradient steps of the value on each whole batch.
    """
    from ray_jobs.rl.algorithms.policy_gradient.trpo import TRPO

    algorithm = TRPO(
        horizon=horizon,
        max_kl=max_kl,
        damping=damping,
        gamma=gamma,
        lam=lam,
        lr=lr,
        anneal=True,
        value_epochs=value_epochs,
        minibatches=1,
    )
    return Play(algorithm, "Hopper-v5", steps=steps, envs=envs, normalize_obs=True, normalize_reward=True)
