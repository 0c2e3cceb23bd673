"""D4PG on HalfCheetah at the paper's scale; needs the mujoco extra, many cores and hours."""

from ray_jobs.recipe.plan import Headline, Play

system, data = "D4PG", "HalfCheetah-v5"
headline = Headline("Barth-Maron et al. 2018", arxiv="1804.08617", metric="episode_return")
claim = None
space = {"critic_lr": "loguniform(1e-4,1e-3)", "n_step": "choice(1,3,5)", "priority": "choice(0.0,0.6)"}


def recipe(
    *,
    steps: int = 1_000_000,
    envs: int = 32,
    actor_lr: float = 1e-4,
    critic_lr: float = 1e-4,
    gamma: float = 0.99,
    batch: int = 256,
    width: int = 256,
    n_step: int = 5,
    priority: float = 0.6,
    low: float = -100.0,
    high: float = 1500.0,
    atoms: int = 101,
    target_every: int = 100,
    noise: float = 0.3,
) -> Play:
    """Thirty-two environments, shared by any number of runners, with the paper's settings where it gives them.

    The paper's own cheetah is another, DeepMind control's, so its number says nothing here.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        actor_lr: Adam's step size, of the actor.
        critic_lr: Adam's step size, of the critic.
        gamma: discount.
        batch: transitions of one update; there is one for each step.
        width: units in each of two hidden layers.
        n_step: steps whose rewards a target sums.
        priority: exponent of the errors in proportion to which transitions are drawn; 0 is uniform.
        low: the least discounted return that the critic can tell.
        high: the largest: an episode of 15000 earns 15 a step, and has 1500 in sight at this discount.
        atoms: returns between them to which the critic gives probabilities; the paper has 51, over 300.
        target_every: updates between copies of the networks into those that targets are made of.
        noise: deviation of exploring actions, in halves of their range.
    """
    from ray_jobs.rl.algorithms.off_policy.d4pg import D4PG

    algorithm = D4PG(
        batch=batch,
        warmup=10_000,
        every=envs,
        updates=envs,
        n_step=n_step,
        priority=priority,
        gamma=gamma,
        actor_lr=actor_lr,
        critic_lr=critic_lr,
        target_every=target_every,
        low=low,
        high=high,
        atoms=atoms,
        noise=noise,
        width=width,
    )
    return Play(algorithm, "HalfCheetah-v5", steps=steps, envs=envs, eval_episodes=10, log_every=10_000)
