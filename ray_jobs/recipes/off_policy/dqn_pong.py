"""DQN plays Pong from its screen at the paper's scale; needs the atari extra, a GPU, and memory for the frames."""

from ray_jobs.recipe.plan import Headline, Play

system, data = "DQN", "ALE/Pong-v5"
headline = Headline(
    "Mnih et al. 2015",
    metric="episode_return",
    value=18.9,
    where="doi:10.1038/nature14236, extended data table 2",
)
claim = None
space = {"lr": "loguniform(3e-5,3e-4)", "n_step": "choice(1,3)"}


def recipe(
    *,
    steps: int = 50_000_000,
    lr: float = 6.25e-5,
    gamma: float = 0.99,
    capacity: int = 1_000_000,
    batch: int = 32,
    warmup: int = 50_000,
    every: int = 4,
    target_every: int = 10_000,
    epsilon: float = 0.1,
    double: bool = False,
    priority: float = 0.0,
    n_step: int = 1,
) -> Play:
    """The settings of Mnih et al. 2015, extended data table 1; a random policy scores -20.7 there, and people 9.3.

    The step size is Adam's of Hessel et al. 2018, arXiv:1710.02298, table 1: the paper's is RMSProp's. The evaluation is greedy over
    30 episodes of 5 minutes, where the paper's plays 5% of its actions at random.

    Args:
        steps: environment steps, of 4 frames each.
        lr: Adam's step size.
        gamma: discount.
        capacity: transitions kept, 56 kB each; a checkpoint holds them too.
        batch: transitions of one update.
        warmup: steps before the first update.
        every: steps for each update.
        target_every: updates between copies of the online network into the target.
        epsilon: probability of a random action after the first million steps.
        double: let the online network choose the action that the target network values.
        priority: exponent of the errors in proportion to which transitions are drawn; 0 draws evenly.
        n_step: steps whose rewards a target sums, at most.
    """
    from ray_jobs.rl.algorithms.off_policy.dqn import DQN

    algorithm = DQN(
        capacity=capacity,
        batch=batch,
        warmup=warmup,
        every=every,
        updates=1,
        gamma=gamma,
        lr=lr,
        double=double,
        priority=priority,
        n_step=n_step,
        target_every=target_every,
        explore_for=min(1.0, 1_000_000 / steps),
        epsilon=epsilon,
        max_norm=float("inf"),
    )
    options = {"repeat_action_probability": 0.0, "episodic_life": True, "max_num_frames_per_episode": 18_000}
    return Play(
        algorithm,
        "ALE/Pong-v5",
        steps=steps,
        envs=1,
        env_options=options,
        eval_episodes=30,
        save_every=5_000_000,
        log_every=20_000,
    )
