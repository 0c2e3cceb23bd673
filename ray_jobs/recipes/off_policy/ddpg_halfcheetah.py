"""DDPG on HalfCheetah at the paper's scale; needs the mujoco extra and hours."""

from ray_jobs.recipe.plan import Headline, Play

system, data = "DDPG", "HalfCheetah-v5"
headline = Headline("Lillicrap et al. 2016", arxiv="1509.02971", metric="episode_return")
claim = None
space = {"actor_lr": "loguniform(1e-4,1e-3)", "critic_lr": "loguniform(3e-4,3e-3)"}


def recipe(
    *,
    steps: int = 1_000_000,
    envs: int = 1,
    actor_lr: float = 1e-3,
    critic_lr: float = 1e-3,
    gamma: float = 0.99,
    batch: int = 256,
    width: int = 256,
    tau: float = 0.005,
    noise: float = 0.1,
    warmup: int = 25_000,
) -> Play:
    """One update for every step, with tianshou's settings, whose ten seeds reach 11719; the paper has other dynamics and rewards.

    Fujimoto et al. 2018 (arXiv:1802.09477, table 1) report 8577 for their DDPG.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners; each round of steps is followed by as many updates.
        actor_lr: Adam's step size, of the actor.
        critic_lr: Adam's step size, of the critic.
        gamma: discount.
        batch: transitions of one update.
        width: units in each of two hidden layers.
        tau: share of the way that the slow copies go to the networks.
        noise: deviation of exploring actions, in halves of their range.
        warmup: steps of random actions, before the first update.
    """
    from ray_jobs.rl.algorithms.off_policy.ddpg import DDPG

    algorithm = DDPG(
        batch=batch,
        warmup=warmup,
        every=envs,
        updates=envs,
        gamma=gamma,
        actor_lr=actor_lr,
        critic_lr=critic_lr,
        tau=tau,
        noise=noise,
        width=width,
    )
    return Play(algorithm, "HalfCheetah-v5", steps=steps, envs=envs, eval_episodes=10, log_every=10_000)
