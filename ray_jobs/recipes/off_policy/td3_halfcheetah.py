"""TD3 on HalfCheetah at the paper's scale; needs the mujoco extra and hours."""

from ray_jobs.recipe.plan import Headline, Play

system, data = "TD3", "HalfCheetah-v5"
headline = Headline(
    "Fujimoto et al. 2018", arxiv="1802.09477", metric="episode_return", value=9637.0, where="Table 1, HalfCheetah-v1"
)
claim = None
space = {"lr": "loguniform(1e-4,1e-3)", "noise": "choice(0.05,0.1,0.2)"}


def recipe(
    *,
    steps: int = 1_000_000,
    envs: int = 1,
    lr: float = 3e-4,
    gamma: float = 0.99,
    batch: int = 256,
    width: int = 256,
    tau: float = 0.005,
    delay: int = 2,
    smoothing: float = 0.2,
    noise: float = 0.1,
    warmup: int = 25_000,
) -> Play:
    """One update for every step, with the settings that the authors' code came to have; tianshou's ten seeds reach 10201 so.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners; each round of steps is followed by as many updates.
        lr: Adam's step size.
        gamma: discount.
        batch: transitions of one update.
        width: units in each of two hidden layers.
        tau: share of the way that the slow copies go to the networks.
        delay: updates of the critics for one of the actor.
        smoothing: deviation of the noise on a target's actions, in halves of their range.
        noise: deviation of exploring actions, in halves of their range.
        warmup: steps of random actions, before the first update.
    """
    from ray_jobs.rl.algorithms.off_policy.td3 import TD3

    algorithm = TD3(
        batch=batch,
        warmup=warmup,
        every=envs,
        updates=envs,
        gamma=gamma,
        lr=lr,
        tau=tau,
        delay=delay,
        noise=noise,
        smoothing=smoothing,
        width=width,
    )
    return Play(algorithm, "HalfCheetah-v5", steps=steps, envs=envs, eval_episodes=10, log_every=10_000)
