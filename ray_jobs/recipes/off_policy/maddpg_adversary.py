"""MADDPG: two agents hide their landmark from an adversary; needs the mpe extra."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "MADDPG", "simple_adversary_v3"
headline = Headline("Lowe et al. 2017", arxiv="1706.02275", metric="episode_return")
claim = Claim("episode_return", at_least=-9, seeds=5)
space = {"lr": "loguniform(1e-3,2e-2)", "every": "choice(25,50,100)"}


def recipe(
    *,
    steps: int = 30_000,
    envs: int = 16,
    lr: float = 5e-3,
    batch: int = 256,
    every: int = 16,
    updates: int = 1,
    gamma: float = 0.95,
    tau: float = 1e-2,
    width: int = 64,
    ensemble: int = 1,
) -> Play:
    """Two agents know which of two landmarks is theirs, and an adversary that follows them does not.

    The return adds up all three rewards over 25 steps. It comes to the adversary's distance from the landmark, less twice that of the
    nearer agent: it rises as the agents learn to get there and to deceive, and falls as the adversary learns to find out. So it says
    who gains on whom, and not how good either is: both learn. A random policy scores about -17.5 (100 episodes, standard error
    2.3), agents that stand still about -16. Measured over seeds 0 to 4: -1 to -8.

    Args:
        steps: environment steps, over all runners.
        envs: parallel worlds, over all runners.
        lr: Adam's step size.
        batch: transitions of one update.
        every: steps between rounds of updates.
        updates: updates in a round.
        gamma: discount.
        tau: share by which the slow copies follow, each update.
        width: units in each of two hidden layers.
        ensemble: members of each agent's policy.
    """
    from ray_jobs.rl.algorithms.off_policy.maddpg import MADDPG

    algorithm = MADDPG(
        lr=lr, batch=batch, every=every, updates=updates, gamma=gamma, tau=tau, width=width, ensemble=ensemble
    )
    return Play(algorithm, "mpe2.simple_adversary_v3:parallel_env", steps=steps, envs=envs)
