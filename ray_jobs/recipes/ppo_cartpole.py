"""PPO balances a pole on a cart."""

from ray_jobs.recipe import Claim, Headline, Play

system, data = "PPO", "CartPole-v1"
headline = Headline("Schulman et al. 2017", arxiv="1707.06347", metric="episode_return")
claim = Claim("episode_return", at_least=475, seeds=5)
space = {"lr": "loguniform(3e-4,1e-2)", "clip": "choice(0.1,0.2,0.3)", "epochs": "choice(2,4,8)"}


def recipe(
    *,
    steps: int = 200_000,
    envs: int = 64,
    horizon: int = 32,
    lr: float = 3e-3,
    clip: float = 0.2,
    epochs: int = 4,
    minibatches: int = 4,
    gamma: float = 0.98,
    lam: float = 0.9,
    stop_return: float = 475.0,
) -> Play:
    """Many environments at once, so that the networks and not Python set the pace.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment between updates.
        lr: Adam's step size.
        clip: how far the probability ratio may move from 1.
        epochs: passes over each batch.
        minibatches: parts of a batch, each one gradient step.
        gamma: discount.
        lam: GAE's lambda.
        stop_return: stop once 100 training episodes average this; more than 500 never stops early.
    """
    from ray_jobs.rl.algorithms.ppo import PPO

    algorithm = PPO(horizon=horizon, lr=lr, clip=clip, epochs=epochs, minibatches=minibatches, gamma=gamma, lam=lam)
    return Play(algorithm, "CartPole-v1", steps=steps, envs=envs, stop_return=stop_return)
