"""DDPG swings a pendulum up."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "DDPG", "Pendulum-v1"
headline = Headline("Lillicrap et al. 2016", arxiv="1509.02971", metric="episode_return")
claim = Claim("episode_return", at_least=-170, seeds=5)
space = {"actor_lr": "loguniform(1e-4,3e-3)", "critic_lr": "loguniform(3e-4,3e-3)"}


def recipe(
    *,
    steps: int = 20_000,
    envs: int = 8,
    actor_lr: float = 1e-3,
    critic_lr: float = 1e-3,
    gamma: float = 0.98,
    batch: int = 128,
    width: int = 64,
    tau: float = 0.005,
    noise: float = 0.1,
) -> Play:
    """Small networks, and one update for two steps. A random policy scores about -1200; stable-baselines3's zoo reports -152 for DDPG.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        actor_lr: Adam's step size, of the actor.
        critic_lr: Adam's step size, of the critic.
        gamma: discount.
        batch: transitions of one update.
        width: units in each of two hidden layers.
        tau: share of the way that the slow copies go to the networks.
        noise: deviation of exploring actions, in halves of their range.
    """
    from ray_jobs.rl.algorithms.off_policy.ddpg import DDPG

    algorithm = DDPG(
        capacity=50_000,
        batch=batch,
        every=8,
        updates=4,
        gamma=gamma,
        actor_lr=actor_lr,
        critic_lr=critic_lr,
        tau=tau,
        noise=noise,
        width=width,
    )
    return Play(algorithm, "Pendulum-v1", steps=steps, envs=envs)
