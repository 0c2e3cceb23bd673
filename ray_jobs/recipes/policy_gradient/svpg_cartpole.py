"""SVPG balances a pole with several policies at once; a random policy scores about 22."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "SVPG", "CartPole-v1"
headline = Headline("Liu et al. 2017", arxiv="1704.02399", metric="episode_return")
claim = Claim("episode_return", at_least=475, seeds=5)
space = {"temperature": "loguniform(1e-2,1.0)", "lr": "loguniform(1e-3,1e-2)", "particles": "choice(2,4,8)"}


def recipe(
    *,
    steps: int = 200_000,
    envs: int = 16,
    particles: int = 4,
    temperature: float = 0.1,
    horizon: int = 32,
    lr: float = 3e-3,
    gamma: float = 0.99,
    lam: float = 0.95,
    width: int = 32,
) -> Play:
    """Four particles with four environments each; the best of them is evaluated.

    Args:
        steps: environment steps, over all runners and particles.
        envs: parallel environments, over all runners; the number of particles must divide every runner's.
        particles: policies.
        temperature: weight of keeping apart against climbing.
        horizon: steps of each environment between updates.
        lr: Adam's step size at the start, falling linearly to 0.
        gamma: discount.
        lam: GAE's lambda.
        width: units in each of two hidden layers.
    """
    from ray_jobs.rl.algorithms.policy_gradient.svpg import SVPG

    algorithm = SVPG(
        particles=particles, temperature=temperature, horizon=horizon, lr=lr, gamma=gamma, lam=lam, width=width
    )
    return Play(algorithm, "CartPole-v1", steps=steps, envs=envs)
