"""DQN balances a pole on a cart, from replayed steps."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "DQN", "CartPole-v1"
headline = Headline("Mnih et al. 2015", metric="episode_return", where="doi:10.1038/nature14236")
claim = Claim("episode_return", at_least=300, seeds=10)
space = {"lr": "loguniform(3e-4,1e-2)", "target_every": "choice(32,128,512)"}


def recipe(
    *,
    steps: int = 50_000,
    lr: float = 5e-4,
    gamma: float = 0.99,
    batch: int = 64,
    width: int = 128,
    double: bool = True,
    target_every: int = 128,
    epsilon: float = 0.04,
) -> Play:
    """Near the settings of stable-baselines3's zoo, with double Q-learning, an update for every step, and a step size that falls to 0.

    Errors count by their squares, as far as the end of an episode is worth. By Huber's loss, which turns linear at 1, the many steps
    before an end outvote it: one seed in three was then left with a policy of less than 300 steps.

    Args:
        steps: environment steps.
        lr: Adam's step size, falling linearly to 0.
        gamma: discount.
        batch: transitions of one update.
        width: units in each of two hidden layers.
        double: let the online network choose the action that the target network values.
        target_every: updates between copies of the online network into the target.
        epsilon: probability of a random action once exploration has fallen.
    """
    from ray_jobs.rl.algorithms.off_policy.dqn import DQN

    algorithm = DQN(
        lr=lr,
        anneal=True,
        gamma=gamma,
        batch=batch,
        every=64,
        updates=64,
        double=double,
        target_every=target_every,
        epsilon=epsilon,
        error_clip=100,
        width=width,
    )
    return Play(algorithm, "CartPole-v1", steps=steps, envs=8)
