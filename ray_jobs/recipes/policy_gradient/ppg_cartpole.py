"""PPG balances a pole on a cart."""

from ray_jobs.recipe.plan import Claim, Headline, Play

system, data = "PPG", "CartPole-v1"
headline = Headline("Cobbe et al. 2020", arxiv="2009.04416", metric="episode_return")
claim = Claim("episode_return", at_least=475, seeds=5)
space = {"lr": "loguniform(1e-3,1e-2)", "policy_phases": "choice(4,8,16)", "beta_clone": "choice(0.3,1.0,3.0)"}


def recipe(
    *,
    steps: int = 150_000,
    envs: int = 16,
    horizon: int = 64,
    lr: float = 3e-3,
    policy_phases: int = 8,
    epochs: int = 2,
    value_epochs: int = 2,
    minibatches: int = 4,
    aux_epochs: int = 4,
    beta_clone: float = 1.0,
    clip: float = 0.2,
    gamma: float = 0.99,
    lam: float = 0.95,
    entropy_weight: float = 0.0,
    width: int = 64,
) -> Play:
    """The paper's figures are of Procgen, and none of this task; 500 is the most there is, and a random policy scores about 22.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment between updates.
        lr: Adam's step size at the start; it falls to 0.
        policy_phases: updates between auxiliary phases.
        epochs: the policy's passes over each batch.
        value_epochs: the value's passes over each batch.
        minibatches: parts of a batch, each one gradient step.
        aux_epochs: passes of an auxiliary phase over all steps since the last one.
        beta_clone: weight of the KL from the policy as it was before the auxiliary phase.
        clip: how far the probability ratio may move from 1.
        gamma: discount.
        lam: GAE's lambda.
        entropy_weight: weight of the entropy bonus.
        width: units in each of two hidden layers.
    """
    from ray_jobs.rl.algorithms.policy_gradient.ppg import PPG

    algorithm = PPG(
        horizon=horizon,
        policy_phases=policy_phases,
        epochs=epochs,
        value_epochs=value_epochs,
        minibatches=minibatches,
        aux_epochs=aux_epochs,
        aux_minibatches=minibatches,
        lr=lr,
        anneal=True,
        clip=clip,
        gamma=gamma,
        lam=lam,
        entropy_weight=entropy_weight,
        beta_clone=beta_clone,
        width=width,
    )
    return Play(algorithm, "CartPole-v1", steps=steps, envs=envs, normalize_reward=True)
