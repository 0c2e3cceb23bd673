"""IMPALA plays Pong, at the paper's scale; needs the ale-py package."""

from ray_jobs.recipe.plan import Headline, Play

system, data = "IMPALA", "ALE/Pong-v5"
headline = Headline("Espeholt et al. 2018", arxiv="1802.01561", metric="episode_return")
claim = None
space = {"lr": "loguniform(1e-4,2e-3)", "entropy_weight": "choice(0.003,0.01,0.03)"}


def recipe(
    *,
    steps: int = 50_000_000,
    envs: int = 32,
    horizon: int = 20,
    lr: float = 6e-4,
    gamma: float = 0.99,
    entropy_weight: float = 0.01,
) -> Play:
    """The paper's settings for Atari, with its shallow network without LSTM and Adam in place of RMSProp: 200 million frames.

    Args:
        steps: environment steps of four frames each, over all runners.
        envs: parallel environments, over all runners; a runner with 32 fills the paper's batch with each fragment.
        horizon: steps of each environment in a fragment.
        lr: Adam's step size, falling linearly to 0.
        gamma: discount.
        entropy_weight: weight of the entropy bonus.
    """
    from ray_jobs.rl.algorithms.policy_gradient.impala import IMPALA

    norm = 40 / (32 * horizon)  # the paper clips sums over its batch at 40, and here losses are means
    algorithm = IMPALA(horizon=horizon, lr=lr, gamma=gamma, entropy_weight=entropy_weight, max_norm=norm, shared=True)
    return Play(algorithm, "ALE/Pong-v5", steps=steps, envs=envs, save_every=1_000_000, log_every=50_000)
