"""D4PG swings a pendulum up."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "D4PG", "Pendulum-v1"
headline = Headline("Barth-Maron et al. 2018", arxiv="1804.08617", metric="episode_return")
claim = Claim("episode_return", at_least=-170, seeds=5)
space = {"critic_lr": "loguniform(3e-4,3e-3)", "n_step": "choice(1,3,5)", "priority": "choice(0.0,0.6)"}


def recipe(
    *,
    steps: int = 20_000,
    envs: int = 8,
    actor_lr: float = 5e-4,
    critic_lr: float = 1e-3,
    gamma: float = 0.98,
    batch: int = 128,
    width: int = 64,
    n_step: int = 3,
    priority: float = 0.6,
    atoms: int = 51,
    target_every: int = 100,
    noise: float = 0.2,
) -> Play:
    """Small networks, and one update for two steps. A random policy scores about -1200; the zoo's DDPG reaches -152.

    A pendulum that hangs still earns -9.9 a step, -493 in sight at this discount: the critic's atoms are from -500 to 0.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        actor_lr: Adam's step size, of the actor.
        critic_lr: Adam's step size, of the critic.
        gamma: discount.
        batch: transitions of one update.
        width: units in each of two hidden layers.
        n_step: steps whose rewards a target sums.
        priority: exponent of the errors in proportion to which transitions are drawn; 0 is uniform.
        atoms: returns to which the critic gives probabilities.
        target_every: updates between copies of the networks into those that targets are made of.
        noise: deviation of exploring actions, in halves of their range.
    """
    from ray_jobs.rl.algorithms.off_policy.d4pg import D4PG

    algorithm = D4PG(
        capacity=50_000,
        batch=batch,
        every=8,
        updates=4,
        n_step=n_step,
        priority=priority,
        gamma=gamma,
        actor_lr=actor_lr,
        critic_lr=critic_lr,
        target_every=target_every,
        low=-500.0,
        high=0.0,
        atoms=atoms,
        noise=noise,
        width=width,
    )
    return Play(algorithm, "Pendulum-v1", steps=steps, envs=envs)
