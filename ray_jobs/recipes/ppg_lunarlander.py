"""PPG lands on the moon; needs the box2d extra."""

from ray_jobs.recipe import Headline, Play

system, data = "PPG", "LunarLander-v3"
headline = Headline("Cobbe et al. 2020", arxiv="2009.04416", metric="episode_return")
claim = None
space = {"lr": "loguniform(1e-4,2e-3)", "policy_phases": "choice(8,16,32)", "beta_clone": "choice(0.3,1.0,3.0)"}


def recipe(
    *,
    steps: int = 1_000_000,
    envs: int = 16,
    horizon: int = 256,
    lr: float = 5e-4,
    policy_phases: int = 16,
    aux_epochs: int = 6,
    beta_clone: float = 1.0,
    entropy_weight: float = 0.01,
    continuous: bool = False,
) -> Play:
    """Step size, auxiliary passes, entropy bonus and clone weight are the paper's, whose figures are of Procgen; 4 passes of the policy
    are usual for PPO here. 200 counts as landed; a random policy scores about -181.

    Args:
        steps: environment steps, over all runners.
        envs: parallel environments, over all runners.
        horizon: steps of each environment between updates.
        lr: Adam's step size.
        policy_phases: updates between auxiliary phases.
        aux_epochs: passes of an auxiliary phase over all steps since the last one.
        beta_clone: weight of the KL from the policy as it was before the auxiliary phase.
        entropy_weight: weight of the entropy bonus.
        continuous: throttle the engines, in place of switching them.
    """
    from ray_jobs.rl.algorithms.ppg import PPG

    algorithm = PPG(
        horizon=horizon,
        policy_phases=policy_phases,
        epochs=4,
        value_epochs=4,
        minibatches=max(1, envs * horizon // 256),
        aux_epochs=aux_epochs,
        aux_minibatches=max(1, envs * horizon // 256),
        lr=lr,
        gamma=0.999,
        lam=0.98,
        entropy_weight=entropy_weight,
        beta_clone=beta_clone,
    )
    return Play(
        algorithm,
        "LunarLander-v3",
        steps=steps,
        envs=envs,
        env_options={"continuous": continuous},
        normalize_reward=True,
    )
