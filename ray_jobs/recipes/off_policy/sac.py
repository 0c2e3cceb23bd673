"""Recipes of SAC."""

from ray_jobs.recipe import Claim, Headline, Play, Recipe

sac_fixed_pendulum = Recipe(
    "SAC swings up a pendulum, with a temperature that stays.",
    Play("sac:SAC", env="Pendulum-v1", steps=20_000, envs=4, batch_size=128, train_every=2, actor_lr=0.001,
         critic_lr=0.001, tau=0.01, automatic=False, alpha=0.2),
    system="SAC", headline=Headline("Haarnoja et al. 2018", arxiv="1801.01290", metric="episode_return"),
    claim=Claim("episode_return", at_least=-170),
    space={"actor_lr": "loguniform(3e-4,5e-3)", "alpha": "loguniform(0.02,2)"},
    text=(
        "The settings of sac_pendulum with the temperature fixed; the zoo's result there is -157, a random policy "
        "scores about -1200."
    ),
)  # fmt: skip

sac_halfcheetah = Recipe(
    "SAC runs as half a cheetah, at the paper's scale; needs the mujoco extra of gymnasium.",
    Play("sac:SAC", env="HalfCheetah-v5", steps=1_000_000, envs=1, eval_episodes=10, buffer_size=1_000_000,
         learning_starts=10_000, train_every=1, width=256),
    system="SAC",
    headline=Headline("Haarnoja et al. 2018", arxiv="1801.01290", metric="episode_return", value=10_400,
                      where="figure 1, at 1 M steps, as read by Tianshou"),
    text=(
        "The settings of arXiv:1812.05905, table 1: one update for every step. Tianshou's mean over 10 seeds, of "
        "HalfCheetah-v3, is 12139."
    ),
)  # fmt: skip

sac_halfcheetah_narrow = Recipe(
    "SAC runs as half a cheetah by networks half as wide as the paper's; needs the mujoco extra.",
    Play("sac:SAC", env="HalfCheetah-v5", steps=60_000, envs=4, eval_episodes=10, batch_size=128, learning_starts=5000,
         train_every=2, actor_lr=0.001, critic_lr=0.001, width=128),
    system="SAC",
    headline=Headline("Haarnoja et al. 2018", arxiv="1801.01290", metric="episode_return", where="figure 1"),
    claim=Claim("episode_return", at_least=3500, seeds=3),
    space={"actor_lr": "loguniform(3e-4,3e-3)", "tau": "choice(0.005,0.01,0.02)"},
    text=(
        "In minutes: 60,000 steps, with an update for every two, of half the batch. sac_halfcheetah has the paper's "
        "million and its settings. A random policy scores about -274 (30 episodes, standard error 10). docs/results "
        "has what this reaches. At 1 M steps the paper has about 10400, and Tianshou's mean over 10 seeds, of "
        "HalfCheetah-v3, is 12139."
    ),
)  # fmt: skip

sac_pendulum = Recipe(
    "SAC swings up a pendulum, with a temperature that finds itself.",
    Play("sac:SAC", env="Pendulum-v1", steps=20_000, envs=4, batch_size=128, train_every=2, actor_lr=0.001,
         critic_lr=0.001, tau=0.01, target_entropy=-1.0),
    system="SAC", headline=Headline("Haarnoja et al. 2018", arxiv="1812.05905", metric="episode_return"),
    claim=Claim("episode_return", at_least=-170),
    space={"actor_lr": "loguniform(3e-4,5e-3)", "tau": "choice(0.005,0.01,0.02)"},
    text=(
        "The steps and step size of stable-baselines3's zoo, whose result is -157; a random policy scores about "
        "-1200."
    ),
)  # fmt: skip
