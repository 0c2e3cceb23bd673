"""PPO with an adaptive penalty on the KL, in place of clipping, balances a pole; a random policy scores about 22."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "PPO with a KL penalty", "CartPole-v1"
headline = Headline("Schulman et al. 2017", arxiv="1707.06347", metric="episode_return", where="section 4")
claim = Claim("episode_return", at_least=475, seeds=5)
space = {"lr": "loguniform(3e-4,1e-2)", "penalty_kl": "loguniform(3e-3,3e-2)", "epochs": "choice(5,10,20)"}


def recipe(
    *,
    steps: int = 200_000,
    envs: int = 16,
    horizon: int = 32,
    lr: float = 1e-3,
    penalty_kl: float = 0.01,
    penalty: float = 1.0,
    epochs: int = 5,
    minibatches: int = 4,
    gamma: float = 0.99,
    lam: float = 0.95,
    stop_return: float = 475.0,
) -> Play:
    """The paper's middle target, 0.01 nats.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment between updates.
        lr: Adam's step size at the start, falling linearly to 0.
        penalty_kl: KL that an update is to reach; the penalty doubles where it went further, and halves where it fell short.
        penalty: weight of the KL at the start.
        epochs: passes over each batch.
        minibatches: parts of a batch, each one gradient step.
        gamma: discount.
        lam: GAE's lambda.
        stop_return: stop once 100 training episodes average this; more than 500 never stops early.
    """
    from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO

    algorithm = PPO(
        horizon=horizon,
        epochs=epochs,
        minibatches=minibatches,
        lr=lr,
        anneal=True,
        gamma=gamma,
        lam=lam,
        penalty_kl=penalty_kl,
        penalty=penalty,
    )
    return Play(algorithm, "CartPole-v1", steps=steps, envs=envs, stop_return=stop_return)
