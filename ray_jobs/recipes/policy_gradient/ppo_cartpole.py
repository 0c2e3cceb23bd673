"""PPO balances a pole on a cart."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "PPO", "CartPole-v1"
headline = Headline("Schulman et al. 2017", arxiv="1707.06347", metric="episode_return")
claim = Claim("episode_return", at_least=475, seeds=5)
space = {"lr": "loguniform(3e-3,5e-2)", "clip": "choice(0.1,0.2,0.3)", "epochs": "choice(2,4,8)"}


def recipe(
    *,
    steps: int = 300_000,
    envs: int = 112,
    horizon: int = 32,
    lr: float = 2.5e-2,
    clip: float = 0.2,
    epochs: int = 3,
    minibatches: int = 3,
    gamma: float = 0.99,
    lam: float = 0.95,
    width: int = 32,
    value_weight: float = 3e-3,
    stop_return: float = 475.0,
) -> Play:
    """Many environments at once and one small network, so that neither Python nor the matrices set the pace alone.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment between updates.
        lr: Adam's step size at the start; it and the clip fall to 0.
        clip: how far the probability ratio may move from 1.
        epochs: passes over each batch.
        minibatches: parts of a batch, each one gradient step.
        gamma: discount.
        lam: GAE's lambda.
        width: units in each of two hidden layers.
        value_weight: weight of the value loss; small, since returns of 100 would else drown the policy in the common layers.
        stop_return: stop once 100 training episodes average this; more than 500 never stops early.
    """
    from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO

    algorithm = PPO(
        horizon=horizon,
        epochs=epochs,
        minibatches=minibatches,
        lr=lr,
        anneal=True,
        clip=clip,
        gamma=gamma,
        lam=lam,
        value_weight=value_weight,
        width=width,
        shared=True,
    )
    return Play(algorithm, "CartPole-v1", steps=steps, envs=envs, log_every=10_000, stop_return=stop_return)
