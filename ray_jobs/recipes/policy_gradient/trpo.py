"""Recipes of TRPO."""

from ray_jobs.recipe import Claim, Headline, Play, Recipe

PAPER = Headline("Schulman et al. 2015", arxiv="1502.05477", metric="episode_return")

trpo_cartpole = Recipe(
    "TRPO balances a pole on a cart; a random policy scores about 22.",
    Play("trpo:TRPO", env="CartPole-v1", steps=150_000, stop_return=475.0, value_epochs=10),
    system="TRPO", headline=PAPER, claim=Claim("episode_return", at_least=475),
    space={"max_kl": "loguniform(3e-3,5e-2)", "damping": "loguniform(1e-2,3e-1)", "lam": "choice(0.9,0.95,0.98)"},
    text="A batch of 1024 steps for each natural step. Stable-baselines3's zoo has 500.",
)  # fmt: skip

trpo_hopper = Recipe(
    "TRPO hops, at the paper's scale; needs the mujoco package.",
    Play("trpo:TRPO", env="Hopper-v5", steps=1_000_000, envs=16, normalize_obs=True, normalize_reward=True, horizon=64,
         anneal=True, value_epochs=20, minibatches=1),
    system="TRPO",
    headline=Headline("Schulman et al. 2015", arxiv="1502.05477", metric="episode_return", where="figure 4"),
    space={"max_kl": "loguniform(3e-3,5e-2)", "damping": "loguniform(1e-2,3e-1)", "lr": "loguniform(3e-4,3e-3)"},
    text="The settings of Tianshou's benchmark, whose ten seeds reached 2046 on Hopper-v3 in as many steps.",
)  # fmt: skip

trpo_pendulum = Recipe(
    "TRPO swings up a pendulum; a random policy scores about -1200.",
    Play("trpo:TRPO", env="Pendulum-v1", steps=400_000, envs=16, normalize_obs=True, normalize_reward=True,
         horizon=200, max_kl=0.015, gamma=0.95, value_epochs=10, minibatches=8),
    system="TRPO", headline=PAPER, claim=Claim("episode_return", at_least=-200),
    space={"max_kl": "loguniform(3e-3,5e-2)", "damping": "loguniform(1e-2,3e-1)", "lr": "loguniform(3e-4,3e-3)"},
    text=(
        "With a short discount, for the pendulum answers at once, and rewards scaled, for its values reach the "
        "hundreds. Measured over seeds 0 to 4: -152 to -183. Stable-baselines3's zoo has -175 with state- dependent "
        "exploration."
    ),
)  # fmt: skip
