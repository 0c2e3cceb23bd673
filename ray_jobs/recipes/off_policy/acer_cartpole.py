"""ACER balances a pole on a cart, from new and from replayed steps."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "ACER", "CartPole-v1"
headline = Headline("Wang et al. 2017", arxiv="1611.01224", metric="episode_return")
claim = Claim("episode_return", at_least=475, seeds=5)
space = {"lr": "loguniform(5e-4,5e-3)", "replays": "choice(1,4,8)", "delta": "choice(0.1,1.0,10.0)"}


def recipe(
    *,
    steps: int = 150_000,
    envs: int = 16,
    horizon: int = 20,
    replays: int = 4,
    lr: float = 2e-3,
    gamma: float = 0.99,
    c: float = 10.0,
    delta: float = 1.0,
    entropy_weight: float = 0.01,
    width: int = 64,
) -> Play:
    """The second stable-baselines' zoo reports 498.6; a random policy scores about 22.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps in a sequence.
        replays: replayed updates for every new one.
        lr: Adam's step size, falling linearly to 0.
        gamma: discount.
        c: where importance weights are cut.
        delta: how far from the average policy an update may lead, to first order.
        entropy_weight: weight of the entropy bonus.
        width: units in each of two hidden layers.
    """
    from ray_jobs.rl.algorithms.off_policy.acer import ACER

    algorithm = ACER(
        horizon=horizon,
        batch=envs,
        every=envs * horizon,
        replays=replays,
        lr=lr,
        gamma=gamma,
        c=c,
        delta=delta,
        entropy_weight=entropy_weight,
        width=width,
    )
    return Play(algorithm, "CartPole-v1", steps=steps, envs=envs, normalize_reward=True)
