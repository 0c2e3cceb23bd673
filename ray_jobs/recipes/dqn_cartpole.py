"""DQN balances a pole on a cart, from replayed steps."""

from ray_jobs.recipe import Claim, Headline, Play

system, data = "DQN", "CartPole-v1"
headline = Headline("Mnih et al. 2015", metric="episode_return", where="doi:10.1038/nature14236")
claim = Claim("episode_return", at_least=475, seeds=5)
space = {"lr": "loguniform(3e-4,1e-2)", "target_every": "choice(32,128,512)"}


def recipe(
    *,
    steps: int = 50_000,
    lr: float = 2.3e-3,
    gamma: float = 0.99,
    batch: int = 64,
    double: bool = True,
    target_every: int = 128,
    epsilon: float = 0.04,
) -> Play:
    """The settings of stable-baselines3's zoo, with double Q-learning.

    Args:
        steps: environment steps.
        lr: Adam's step size.
        gamma: discount.
        batch: transitions of one update.
        double: let the online network choose the action that the target network values.
        target_every: updates between copies of the online network into the target.
        epsilon: probability of a random action once exploration has fallen.
    """
    from ray_jobs.rl.algorithms.dqn import DQN

    algorithm = DQN(lr=lr, gamma=gamma, batch=batch, double=double, target_every=target_every, epsilon=epsilon)
    return Play(algorithm, "CartPole-v1", steps=steps, envs=8)
