"""PPO lets a cheetah run, at the paper's scale; needs the mujoco package."""

from ray_jobs.recipe.plan import Headline, Play

system, data = "PPO", "HalfCheetah-v5"
headline = Headline("Schulman et al. 2017", arxiv="1707.06347", metric="episode_return", where="figure 3")
claim = None
space = {"lr": "loguniform(1e-4,1e-3)", "clip": "choice(0.1,0.2,0.3)", "epochs": "choice(5,10,20)"}


def recipe(
    *,
    steps: int = 1_000_000,
    envs: int = 8,
    horizon: int = 256,
    lr: float = 3e-4,
    clip: float = 0.2,
    epochs: int = 10,
    gamma: float = 0.99,
    lam: float = 0.95,
) -> Play:
    """The settings of Tianshou's benchmark, whose ten seeds reached 5784 on HalfCheetah-v3 in as many steps.

    It computes advantages anew for each epoch, and deviations start from exp(-0.5); here neither is so.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment between updates; a minibatch has 64 of all.
        lr: Adam's step size at the start; it and the clip fall linearly to 0.
        clip: how far the probability ratio may move from 1.
        epochs: passes over each batch.
        gamma: discount.
        lam: GAE's lambda.
    """
    from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO

    algorithm = PPO(
        horizon=horizon,
        epochs=epochs,
        minibatches=max(1, envs * horizon // 64),
        lr=lr,
        anneal=True,
        clip=clip,
        gamma=gamma,
        lam=lam,
        value_weight=0.25,
        normalize_advantage=False,
    )
    return Play(algorithm, "HalfCheetah-v5", steps=steps, envs=envs, normalize_obs=True, normalize_reward=True)
