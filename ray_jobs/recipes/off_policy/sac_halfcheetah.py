"""SAC runs as half a cheetah, at the paper's scale; needs the mujoco extra of gymnasium."""

from ray_jobs.recipe.plan import Headline, Play

system, data = "SAC", "HalfCheetah-v5"
headline = Headline(
    "Haarnoja et al. 2018",
    arxiv="1801.01290",
    metric="episode_return",
    value=10400,
    where="figure 1, at 1 M steps, as read by Tianshou",
)
claim = None


def recipe(
    *,
    steps: int = 1_000_000,
    lr: float = 3e-4,
    batch: int = 256,
    width: int = 256,
    automatic: bool = True,
    alpha: float = 1.0,
) -> Play:
    """The settings of arXiv:1812.05905, table 1: one update for every step. Tianshou's mean over 10 seeds, of HalfCheetah-v3, is 12139.

    Args:
        steps: environment steps.
        lr: Adam's step size, for all parts.
        batch: transitions of one update.
        width: units in each of two hidden layers.
        automatic: let the temperature seek minus 6 nats.
        alpha: the temperature; where automatic, at the start.
    """
    from ray_jobs.rl.algorithms.off_policy.sac import SAC

    algorithm = SAC(
        capacity=1_000_000,
        batch=batch,
        warmup=10_000,
        every=1,
        lr=lr,
        critic_lr=lr,
        automatic=automatic,
        alpha=alpha,
        width=width,
    )
    return Play(algorithm, "HalfCheetah-v5", steps=steps, envs=1, eval_episodes=10)
