"""PPO plays Pong, at the paper's scale; needs the ale-py package."""

from ray_jobs.recipe.plan import Headline, Play

system, data = "PPO", "ALE/Pong-v5"
headline = Headline("Schulman et al. 2017", arxiv="1707.06347", metric="episode_return", value=20.7, where="table 6")
claim = None
space = {"lr": "loguniform(1e-4,1e-3)", "clip": "choice(0.1,0.2)", "entropy_weight": "choice(0.0,0.01)"}


def recipe(
    *,
    steps: int = 10_000_000,
    envs: int = 8,
    horizon: int = 128,
    lr: float = 2.5e-4,
    clip: float = 0.1,
    epochs: int = 4,
    entropy_weight: float = 0.01,
) -> Play:
    """The settings of stable-baselines3's zoo for Atari: 40 million frames, as in the paper.

    Args:
        steps: environment steps of four frames each, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment between updates; a minibatch has 256 of all.
        lr: Adam's step size at the start; it and the clip fall linearly to 0.
        clip: how far the probability ratio may move from 1.
        epochs: passes over each batch.
        entropy_weight: weight of the entropy bonus.
    """
    from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO

    algorithm = PPO(
        horizon=horizon,
        epochs=epochs,
        minibatches=max(1, envs * horizon // 256),
        lr=lr,
        anneal=True,
        clip=clip,
        entropy_weight=entropy_weight,
        shared=True,
    )
    return Play(algorithm, "ALE/Pong-v5", steps=steps, envs=envs, save_every=500_000, log_every=10_000)
