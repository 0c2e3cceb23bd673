"""SAC swings up a pendulum, with a temperature that finds itself."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "SAC", "Pendulum-v1"
headline = Headline("Haarnoja et al. 2018", arxiv="1812.05905", metric="episode_return")
claim = Claim("episode_return", at_least=-170, seeds=5)
space = {"lr": "loguniform(3e-4,5e-3)", "tau": "choice(0.005,0.01,0.02)"}


def recipe(
    *,
    steps: int = 20_000,
    envs: int = 4,
    lr: float = 1e-3,
    gamma: float = 0.99,
    batch: int = 128,
    width: int = 64,
    tau: float = 0.01,
    every: int = 2,
    target_entropy: float = -1.0,
) -> Play:
    """The steps and step size of stable-baselines3's zoo, whose result is -157; a random policy scores about -1200.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        lr: Adam's step size, for all parts.
        gamma: discount.
        batch: transitions of one update.
        width: units in each of two hidden layers.
        tau: share of the way that the slow critics go in each update.
        every: steps between updates.
        target_entropy: what the temperature seeks, in nats of an action scaled to +-1.
    """
    from ray_jobs.rl.algorithms.off_policy.sac import SAC

    algorithm = SAC(
        batch=batch,
        every=every,
        gamma=gamma,
        lr=lr,
        critic_lr=lr,
        tau=tau,
        width=width,
        target_entropy=target_entropy,
    )
    return Play(algorithm, "Pendulum-v1", steps=steps, envs=envs)
