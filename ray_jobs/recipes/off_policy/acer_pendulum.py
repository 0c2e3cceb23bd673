"""ACER with stochastic dueling networks swings up a pendulum."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "ACER (dueling)", "Pendulum-v1"
headline = Headline("Wang et al. 2017", arxiv="1611.01224", metric="episode_return", where="section 5")
claim = Claim("episode_return", at_least=-200, seeds=5)
space = {"lr": "loguniform(3e-4,5e-3)", "replays": "choice(1,4,8)", "std": "choice(0.2,0.3,0.5)"}


def recipe(
    *,
    steps: int = 150_000,
    envs: int = 16,
    horizon: int = 20,
    replays: int = 8,
    lr: float = 4e-3,
    gamma: float = 0.95,
    c: float = 5.0,
    delta: float = 1.0,
    std: float = 0.4,
    width: int = 64,
) -> Play:
    """The paper's runs are of MuJoCo's tasks; nobody has published a figure here. A random policy scores about -1200.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps in a sequence.
        replays: replayed updates for every new one.
        lr: Adam's step size, falling linearly to 0.
        gamma: discount.
        c: where importance weights are cut.
        delta: how far from the average policy an update may lead, to first order.
        std: deviation of actions, as a share of their largest.
        width: units in each of two hidden layers.
    """
    from ray_jobs.rl.algorithms.off_policy.acer_continuous import ACERContinuous

    algorithm = ACERContinuous(
        horizon=horizon,
        batch=envs,
        every=envs * horizon,
        replays=replays,
        lr=lr,
        gamma=gamma,
        c=c,
        delta=delta,
        std=std,
        width=width,
    )
    return Play(algorithm, "Pendulum-v1", steps=steps, envs=envs, normalize_reward=True)
