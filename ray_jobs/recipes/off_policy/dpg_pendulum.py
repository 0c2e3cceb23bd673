"""DPG swings a pendulum up."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "DPG", "Pendulum-v1"
headline = Headline("Silver et al. 2014", metric="episode_return", where="proceedings.mlr.press/v32/silver14")
claim = Claim("episode_return", at_least=-180, seeds=5)
space = {"actor_lr": "loguniform(3e-4,3e-3)", "critic_lr": "loguniform(1e-3,1e-2)", "noise": "choice(0.2,0.3,0.5)"}


def recipe(
    *,
    steps: int = 20_000,
    envs: int = 8,
    actor_lr: float = 1e-3,
    critic_lr: float = 3e-3,
    gamma: float = 0.98,
    noise: float = 0.5,
    batch: int = 128,
    capacity: int = 20_000,
    tau: float = 0.02,
) -> Play:
    """An actor that is a network, whose critic is linear in as many features as the actor has weights.

    A random policy scores about -1200; stable-baselines3's zoo reports -152 for DDPG.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        actor_lr: Adam's step size at the start, of the actor.
        critic_lr: Adam's step size at the start, of the critic.
        gamma: discount.
        noise: deviation of the behaviour's actions around the actor's, in halves of their range.
        batch: transitions of one update.
        capacity: transitions kept.
        tau: share of the way that V's slow copy goes to V in each update.
    """
    from ray_jobs.rl.algorithms.off_policy.dpg import DPG

    algorithm = DPG(
        capacity=capacity,
        batch=batch,
        every=8,
        updates=4,
        gamma=gamma,
        actor_lr=actor_lr,
        critic_lr=critic_lr,
        anneal=True,
        tau=tau,
        noise=noise,
    )
    return Play(algorithm, "Pendulum-v1", steps=steps, envs=envs)
