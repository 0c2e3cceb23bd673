"""PPO on CartPole-v1 with the settings of stable-baselines3's zoo."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "PPO", "CartPole-v1"
headline = Headline("Schulman et al. 2017", arxiv="1707.06347", metric="episode_return")
claim = Claim("episode_return", at_least=475, seeds=5)


def recipe(*, steps: int = 100_000, lr: float = 1e-3, clip: float = 0.2, stop_return: float | None = None) -> Play:
    """Slower than `ppo_cartpole`: it is here to be compared with the peers at their own settings.

    Args:
        steps: environment steps, over all runners.
        lr: Adam's step size, falling linearly to 0.
        clip: how far the probability ratio may move from 1, falling linearly to 0.
        stop_return: stop once 100 training episodes average this; never where None.
    """
    from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO

    algorithm = PPO(horizon=32, epochs=20, minibatches=1, lr=lr, clip=clip, anneal=True, gamma=0.98, lam=0.8)
    return Play(algorithm, "CartPole-v1", steps=steps, envs=8, stop_return=stop_return)
