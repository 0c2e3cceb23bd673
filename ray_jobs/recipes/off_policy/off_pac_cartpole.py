"""Off-policy actor-critic learns to balance a pole from a behaviour that drops it, half of which is chance."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "Off-PAC", "CartPole-v1"
headline = Headline("Degris et al. 2012", arxiv="1205.4839", metric="episode_return")
claim = Claim("episode_return", at_least=400, seeds=5)
space = {"lr": "loguniform(5e-4,1e-2)", "lam": "choice(0.0,0.2,0.4,0.6)", "wander": "choice(0.3,0.5,1.0)"}


def recipe(
    *,
    steps: int = 1_000_000,
    envs: int = 64,
    horizon: int = 16,
    wander: float = 0.5,
    lam: float = 0.4,
    lr: float = 3e-3,
    gamma: float = 0.99,
    width: int = 64,
) -> Play:
    """Each action is the learned policy's or, as often, an even choice: training returns stay below 200, and the learned policy plays by
    itself in the evaluation alone. The best possible one scores 500, a random one about 22. Measured over seeds 0 to 4: 434 to 500.

    With `wander` at 1 all actions are even choices, whose episodes last about 22 steps and hold few of the states that balancing passes
    through: 500,000 steps of those taught policies that scored 201 to 242.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment between updates.
        wander: share of even choices in the behaviour; the rest are the learned policy's.
        lam: how far traces reach, 0 to 1.
        lr: Adam's step size, falling linearly to 0.
        gamma: discount.
        width: units in each of two hidden layers.
    """
    from ray_jobs.rl.algorithms.off_policy.off_pac import OffPAC

    algorithm = OffPAC(wander=wander, lam=lam, horizon=horizon, lr=lr, gamma=gamma, width=width)
    return Play(algorithm, "CartPole-v1", steps=steps, envs=envs)
