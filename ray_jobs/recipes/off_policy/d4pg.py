"""Recipes of D4PG."""

from ray_jobs.recipe import Claim, Headline, Play, Recipe

PAPER = Headline("Barth-Maron et al. 2018", arxiv="1804.08617", metric="episode_return")

d4pg_halfcheetah = Recipe(
    "D4PG on HalfCheetah at the paper's scale; needs the mujoco extra, many cores and hours.",
    Play("d4pg:D4PG", env="HalfCheetah-v5", steps=1_000_000, envs=32, eval_episodes=10, log_every=10_000,
         learning_starts=10_000, train_every=32, updates_per_train=32, low=-100.0, high=1500.0, atoms=101, width=256),
    system="D4PG", headline=PAPER,
    space={"critic_lr": "loguniform(1e-4,1e-3)", "n_step": "choice(1,3,5)", "priority": "choice(0.0,0.6)"},
    text=(
        "Thirty-two environments, shared by any number of runners, with the paper's settings where it gives them. The "
        "paper's own cheetah is another, DeepMind control's, so its number says nothing here."
    ),
)  # fmt: skip

d4pg_pendulum = Recipe(
    "D4PG swings a pendulum up.",
    Play("d4pg:D4PG", env="Pendulum-v1", steps=20_000, buffer_size=50_000, batch_size=128, train_every=8,
         updates_per_train=4, n_step=3, gamma=0.98, actor_lr=0.0005, critic_lr=0.001, low=-500.0, high=0.0,
         exploration_noise=0.2),
    system="D4PG", headline=PAPER, claim=Claim("episode_return", at_least=-170),
    space={"critic_lr": "loguniform(3e-4,3e-3)", "n_step": "choice(1,3,5)", "priority": "choice(0.0,0.6)"},
    text=(
        "Small networks, and one update for two steps. A random policy scores about -1200; the zoo's DDPG reaches "
        "-152. A pendulum that hangs still earns -9.9 a step, -493 in sight at this discount: the critic's atoms are "
        "from -500 to 0."
    ),
)  # fmt: skip
