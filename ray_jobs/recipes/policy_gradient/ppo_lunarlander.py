"""PPO lands on the moon; needs the box2d extra."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "PPO", "LunarLander-v3"
headline = Headline("Schulman et al. 2017", arxiv="1707.06347", metric="episode_return")
claim = Claim("episode_return", at_least=200, seeds=5)
space = {"lr": "loguniform(1e-4,1e-3)", "entropy_weight": "choice(0.0,0.01)"}


def recipe(
    *,
    steps: int = 1_000_000,
    envs: int = 16,
    horizon: int = 1024,
    lr: float = 3e-4,
    clip: float = 0.2,
    entropy_weight: float = 0.01,
    continuous: bool = False,
) -> Play:
    """The settings of stable-baselines3's zoo, whose result on the version before was 242.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment between updates; a minibatch has 64 of all.
        lr: Adam's step size.
        clip: how far the probability ratio may move from 1.
        entropy_weight: weight of the entropy bonus.
        continuous: throttle the engines, in place of switching them.
    """
    from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO

    algorithm = PPO(
        horizon=horizon,
        epochs=4,
        minibatches=max(1, envs * horizon // 64),
        lr=lr,
        clip=clip,
        gamma=0.999,
        lam=0.98,
        entropy_weight=entropy_weight,
    )
    return Play(algorithm, "LunarLander-v3", steps=steps, envs=envs, env_options={"continuous": continuous})
