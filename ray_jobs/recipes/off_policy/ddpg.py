"""Recipes of DDPG."""

from ray_jobs.recipe import Claim, Headline, Play, Recipe

PAPER = Headline("Lillicrap et al. 2016", arxiv="1509.02971", metric="episode_return")

ddpg_halfcheetah = Recipe(
    "DDPG on HalfCheetah at the paper's scale; needs the mujoco extra and hours.",
    Play("ddpg:DDPG", env="HalfCheetah-v5", steps=1_000_000, envs=1, eval_episodes=10, log_every=10_000,
         batch_size=256, learning_starts=25_000, train_every=1, actor_lr=0.001, tau=0.005, width=256),
    system="DDPG", headline=PAPER, space={"actor_lr": "loguniform(1e-4,1e-3)", "critic_lr": "loguniform(3e-4,3e-3)"},
    text=(
        "One update for every step, with tianshou's settings, whose ten seeds reach 11719; the paper has other "
        "dynamics and rewards. Fujimoto et al. 2018 (arXiv:1802.09477, table 1) report 8577 for their DDPG."
    ),
)  # fmt: skip

ddpg_pendulum = Recipe(
    "DDPG swings a pendulum up.",
    Play("ddpg:DDPG", env="Pendulum-v1", steps=20_000, buffer_size=50_000, batch_size=128, train_every=8,
         updates_per_train=4, gamma=0.98, actor_lr=0.001, tau=0.005),
    system="DDPG", headline=PAPER, claim=Claim("episode_return", at_least=-170),
    space={"actor_lr": "loguniform(1e-4,3e-3)", "critic_lr": "loguniform(3e-4,3e-3)"},
    text=(
        "Small networks, and one update for two steps. A random policy scores about -1200; stable- baselines3's zoo "
        "reports -152 for DDPG."
    ),
)  # fmt: skip
