"""DPG brings a cart with linear dynamics to rest, where the best policy is known."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "DPG", "LQR cart"
headline = Headline("Silver et al. 2014", metric="episode_return", where="proceedings.mlr.press/v32/silver14")
claim = Claim("episode_return", at_least=-5.2, seeds=5)
space = {"actor_lr": "loguniform(3e-4,3e-3)", "critic_lr": "loguniform(1e-3,1e-2)", "noise": "choice(0.03,0.1,0.3)"}


def recipe(
    *,
    steps: int = 15_000,
    envs: int = 8,
    length: int = 20,
    actor_lr: float = 1e-3,
    critic_lr: float = 3e-3,
    gamma: float = 0.95,
    noise: float = 0.1,
    batch: int = 128,
    capacity: int = 2000,
    tau: float = 0.05,
) -> Play:
    """A linear actor, to which the compatible critic can give the true slope.

    The best gain scores -4.56 on average, no force at all -28, and random forces about -1060.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        length: steps of an episode.
        actor_lr: Adam's step size at the start, of the actor.
        critic_lr: Adam's step size at the start, of the critic.
        gamma: discount.
        noise: deviation of the behaviour's actions around the actor's, in halves of their range, which is -10 to 10.
        batch: transitions of one update.
        capacity: transitions kept: few, since older ones have been where the cart no longer goes.
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
        actor_width=0,
    )
    options = {"length": length, "gamma": gamma}
    return Play(algorithm, "ray_jobs.envs.lqr:make", steps=steps, envs=envs, env_options=options, eval_episodes=1000)
